//! The `container` action with `via: kubernetes`.

use kahn_model::{PodOptions, PodVolume, TaintEffect, Toleration, VolumeSource};

use super::container::{target_path, wrong};
use crate::diagnostic::Sink;
use crate::expr::template;
use crate::lenient::Scalar;
use crate::raw::{Entries, RawContainer, RawKubernetes, RawPodVolume, RawToleration, RawVia};
use crate::span::{Span, Spanned};

/// The maximum length of a name of Kubernetes: a DNS subdomain (RFC 1123).
const NAME_BYTES_MAX: usize = 253;
/// The maximum length of the value of a label.
const LABEL_BYTES_MAX: usize = 63;
/// The maximum number of entries of each list.
const ENTRIES_MAX: usize = 64;
/// Stands for all taints.
const ALL_TAINTS: &str = "*";

type Pairs = Vec<(Box<str>, Box<str>)>;

/// Returns what only pods have, or `None` if the container engine runs the container.
pub(super) fn options(
    raw: &Spanned<RawContainer>,
    sink: &mut Sink,
) -> Result<Option<PodOptions>, ()> {
    if raw.via != Some(RawVia::Kubernetes) {
        if let Some(kubernetes) = &raw.kubernetes {
            let help = "add `via: kubernetes`, or remove `kubernetes`";
            wrong("`kubernetes` needs `via: kubernetes`", kubernetes.span, help, sink);
            return Err(());
        }
        return Ok(None);
    }
    let no_host = [
        (raw.mounts.as_ref().and_then(|all| all.first()).map(|mount| mount.span), "mounts"),
        (raw.ports.as_ref().and_then(|all| all.first()).map(|port| port.span), "ports"),
    ];
    for (span, field) in no_host {
        let Some(span) = span else { continue };
        let help = match field {
            "mounts" => {
                "mount a volume with `kubernetes: { volumes: [{ claim: NAME, target: /PATH }] }`"
            }
            _ => "remove `ports`; a pod is reached at its own address",
        };
        wrong(format!("a pod has no `{field}` of a host"), span, help, sink);
        return Err(());
    }
    match &raw.kubernetes {
        Some(kubernetes) => of_kubernetes(kubernetes, sink).map(Some).ok_or(()),
        None => Ok(Some(PodOptions::default())),
    }
}

fn of_kubernetes(raw: &Spanned<RawKubernetes>, sink: &mut Sink) -> Option<PodOptions> {
    let tolerations = list(raw.tolerations.as_deref(), raw.span, toleration, sink);
    let volumes = list(raw.volumes.as_deref(), raw.span, volume, sink);
    let secrets = raw.image_pull_secrets.as_ref().map(|names| names.0.as_slice());
    let secrets = list(secrets, raw.span, name, sink);
    let node_selector = pairs(raw.node_selector.as_ref(), raw.span, sink);
    let labels = pairs(raw.labels.as_ref(), raw.span, sink);
    let annotations = annotations(raw.annotations.as_ref(), raw.span, sink);
    let service_account = optional(raw.service_account.as_ref(), sink);
    let priority_class = optional(raw.priority_class.as_ref(), sink);
    let runtime_class = optional(raw.runtime_class.as_ref(), sink);
    Some(PodOptions {
        service_account: service_account?,
        node_selector: node_selector?,
        tolerations: tolerations?,
        labels: labels?,
        annotations: annotations?,
        volumes: volumes?,
        image_pull_secrets: secrets?,
        priority_class: priority_class?,
        runtime_class: runtime_class?,
    })
}

/// Converts all entries of a list. Returns `None` if one of them is invalid, or there are too many.
fn list<R, T>(
    raw: Option<&[R]>,
    span: Span,
    convert: fn(&R, &mut Sink) -> Option<T>,
    sink: &mut Sink,
) -> Option<Vec<T>> {
    let raw = raw.unwrap_or_default();
    check_number(raw.len(), span, sink)?;
    let converted: Vec<_> = raw.iter().map(|raw| convert(raw, sink)).collect();
    converted.into_iter().collect()
}

fn check_number(n_entries: usize, span: Span, sink: &mut Sink) -> Option<()> {
    if n_entries <= ENTRIES_MAX {
        return Some(());
    }
    let help = "remove some of them";
    wrong(format!("a list with more than {ENTRIES_MAX} entries"), span, help, sink);
    None
}

/// Returns `Some(None)` if there is no name, and `None` if it is invalid.
fn optional(raw: Option<&Spanned<Scalar>>, sink: &mut Sink) -> Option<Option<Box<str>>> {
    match raw {
        Some(raw) => name(raw, sink).map(Some),
        None => Some(None),
    }
}

/// Returns the name of an object of Kubernetes.
fn name(raw: &Spanned<Scalar>, sink: &mut Sink) -> Option<Box<str>> {
    let text = &***raw;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_name = text.len() <= NAME_BYTES_MAX
        && text.chars().all(is_plain)
        && text.starts_with(is_alphanumeric)
        && text.ends_with(is_alphanumeric);
    if !is_name {
        let help = "use lower-case letters, digits, `-` and `.`; expressions are not replaced here";
        wrong(format!("`{text}` is not a name of Kubernetes"), raw.span, help, sink);
        return None;
    }
    Some(text.into())
}

/// Returns the key of a label, an annotation or a taint.
fn key(text: &str, span: Span, sink: &mut Sink) -> Option<Box<str>> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(p, n)| (Some(p), n));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_key = !name.is_empty()
        && name.len() <= LABEL_BYTES_MAX
        && name.chars().all(is_plain)
        && prefix.is_none_or(|prefix| {
            !prefix.is_empty() && prefix.len() <= NAME_BYTES_MAX && prefix.chars().all(is_plain)
        });
    if !is_key {
        let help = "write `name` or `example.com/name`, with letters, digits, `-`, `_` and `.`";
        wrong(format!("`{text}` is not a key of Kubernetes"), span, help, sink);
        return None;
    }
    Some(text.into())
}

/// Returns labels.
fn pairs(raw: Option<&Entries<Spanned<Scalar>>>, span: Span, sink: &mut Sink) -> Option<Pairs> {
    entries(raw, span, label_value, sink)
}

fn annotations(
    raw: Option<&Entries<Spanned<Scalar>>>,
    span: Span,
    sink: &mut Sink,
) -> Option<Pairs> {
    entries(raw, span, annotation_value, sink)
}

fn entries(
    raw: Option<&Entries<Spanned<Scalar>>>,
    span: Span,
    value_of: fn(&Spanned<Scalar>, &mut Sink) -> Option<Box<str>>,
    sink: &mut Sink,
) -> Option<Pairs> {
    let raw = raw.map(|entries| entries.0.as_slice()).unwrap_or_default();
    check_number(raw.len(), span, sink)?;
    let pairs: Vec<_> = raw
        .iter()
        .map(|(name, value)| Some((key(&name.value, name.span, sink)?, value_of(value, sink)?)))
        .collect();
    pairs.into_iter().collect()
}

fn label_value(raw: &Spanned<Scalar>, sink: &mut Sink) -> Option<Box<str>> {
    let text = &***raw;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.len() > LABEL_BYTES_MAX || !text.chars().all(is_plain) {
        let help =
            "use up to 63 letters, digits, `-`, `_` and `.`; expressions are not replaced here";
        wrong(format!("`{text}` is not the value of a label"), raw.span, help, sink);
        return None;
    }
    Some(text.into())
}

fn annotation_value(raw: &Spanned<Scalar>, sink: &mut Sink) -> Option<Box<str>> {
    let text = &***raw;
    if text.contains(template::OPEN) {
        let help = "expressions are not replaced in annotations";
        wrong("an annotation holds an expression", raw.span, help, sink);
        return None;
    }
    Some(text.into())
}

fn toleration(raw: &Spanned<RawToleration>, sink: &mut Sink) -> Option<Toleration> {
    let Some(taint) = &raw.key else {
        let help = "write `{ key: NAME }`, or `{ key: \"*\" }` for all taints";
        wrong("a toleration needs a `key`", raw.span, help, sink);
        return None;
    };
    let effect = match &raw.effect {
        None => None,
        Some(effect) => {
            let known = TaintEffect::ALL.into_iter().find(|known| known.as_str() == &***effect);
            if known.is_none() {
                let help = "write `NoSchedule`, `PreferNoSchedule` or `NoExecute`";
                let message = format!("`{}` is not an effect of a taint", &***effect);
                wrong(message, effect.span, help, sink);
                return None;
            }
            known
        }
    };
    let value = match &raw.value.value {
        Some(value) => Some(label_value(value, sink)?),
        None => None,
    };
    if &***taint == ALL_TAINTS {
        return Some(Toleration { key: "".into(), value: None, effect });
    }
    Some(Toleration { key: key(taint, taint.span, sink)?, value, effect })
}

fn volume(raw: &Spanned<RawPodVolume>, sink: &mut Sink) -> Option<PodVolume> {
    let sources = [
        raw.claim.as_ref().map(|name| (name, VolumeSource::Claim as fn(Box<str>) -> VolumeSource)),
        raw.config_map.as_ref().map(|name| (name, VolumeSource::ConfigMap as _)),
        raw.secret.as_ref().map(|name| (name, VolumeSource::Secret as _)),
    ];
    let mut named = sources.into_iter().flatten();
    let is_empty = raw.empty.unwrap_or(false);
    let source = match (named.next(), named.next(), is_empty) {
        (Some((raw, source)), None, false) => source(name(raw, sink)?),
        (None, None, true) => VolumeSource::Empty,
        _ => {
            let help = "write `{ claim: NAME, target: /PATH }`";
            let message =
                "a volume needs exactly one of `claim`, `config_map`, `secret` and `empty`";
            wrong(message, raw.span, help, sink);
            return None;
        }
    };
    let Some(target) = &raw.target else {
        let help = "write `{ claim: NAME, target: /PATH }`";
        wrong("a volume needs a `target`", raw.span, help, sink);
        return None;
    };
    let is_writable = raw.writable.unwrap_or(is_empty);
    Some(PodVolume { source, target: target_path(target, sink)?, is_writable })
}
