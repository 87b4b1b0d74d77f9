//! The `container` action.

use kahn_model::{Action, Container, Mount, Pod, Port, PullPolicy, Text};

use super::super::exprs::Exprs;
use super::super::groups::{Group, Instance};
use super::pod;
use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::lenient::Scalar;
use crate::raw::{OneOrMany, RawContainer, RawMount, RawPort, RawPull};
use crate::span::{Span, Spanned};

pub(super) fn container(
    group: &Group<'_>,
    instance: &Instance,
    raw: &Spanned<RawContainer>,
    exprs: &mut Exprs<'_>,
    sink: &mut Sink,
) -> Option<Action> {
    let span = raw.span.or(group.span);
    let Some(image) = raw.image.as_ref().filter(|image| !image.trim().is_empty()) else {
        let message = format!("`container` of task `{}` names no image", group.name);
        let help = "write for example `container: { image: \"alpine:3\", args: [ls] }`";
        sink.push(Diagnostic::error(Code::MissingField, message).at(span).help(help));
        return None;
    };
    let mut texts = |list: &Option<OneOrMany<Spanned<Scalar>>>| -> Option<Vec<Text>> {
        let list = list.as_ref().map_or(&[][..], |list| list.0.as_slice());
        let texts: Vec<_> =
            list.iter().map(|text| exprs.text(group, instance, text, sink)).collect();
        texts.into_iter().collect()
    };
    let (command, args) = (texts(&raw.command), texts(&raw.args));
    let image = exprs.text(group, instance, image, sink);
    let mounts: Vec<_> =
        raw.mounts.iter().flatten().map(|raw| mount(group, instance, raw, exprs, sink)).collect();
    let ports: Vec<_> = raw.ports.iter().flatten().map(|raw| port(raw, sink)).collect();
    let user = user(raw.user.as_ref(), sink);
    let options = pod::options(raw, sink);
    let container = Container {
        image: image?,
        pull: match raw.pull {
            None | Some(RawPull::Missing) => PullPolicy::Missing,
            Some(RawPull::Always) => PullPolicy::Always,
            Some(RawPull::Never) => PullPolicy::Never,
        },
        command: command?,
        args: args?,
        user: user.ok()?,
        mounts: mounts.into_iter().collect::<Option<_>>()?,
        ports: ports.into_iter().collect::<Option<_>>()?,
    };
    Some(match options.ok()? {
        None => Action::Container(Box::new(container)),
        Some(options) => Action::Pod(Box::new(Pod { container, options })),
    })
}

pub(super) fn wrong(message: impl Into<String>, span: Span, help: &str, sink: &mut Sink) {
    sink.push(Diagnostic::error(Code::InvalidValue, message.into()).at(span).help(help));
}

/// Parses `uid` or `uid:gid`. Only numbers are allowed: a name depends on the image, which is
/// unknown here.
fn user(raw: Option<&Spanned<Scalar>>, sink: &mut Sink) -> Result<Option<Box<str>>, ()> {
    let Some(text) = raw else { return Ok(None) };
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    if uid.parse::<u32>().is_err() || gid.parse::<u32>().is_err() {
        let message = format!("`{}` is not a user of a container", &***text);
        wrong(message, text.span, "write the number of the user, or `uid:gid`", sink);
        return Err(());
    }
    Ok(Some(text.value.0.clone()))
}

fn mount(
    group: &Group<'_>,
    instance: &Instance,
    raw: &Spanned<RawMount>,
    exprs: &mut Exprs<'_>,
    sink: &mut Sink,
) -> Option<Mount> {
    let (Some(source), Some(target)) = (&raw.source, &raw.target) else {
        let help = "write `{ source: /on/the/host, target: /in/the/container }`";
        wrong("a mount needs a `source` and a `target`", raw.span, help, sink);
        return None;
    };
    let target = target_path(target, sink)?;
    Some(Mount {
        source: exprs.text(group, instance, source, sink)?,
        target,
        is_writable: raw.writable.unwrap_or(false),
    })
}

/// Returns a path in the container.
pub(super) fn target_path(target: &Spanned<Scalar>, sink: &mut Sink) -> Option<Box<str>> {
    let is_plain = |path: &str| path.starts_with('/') && !path.split('/').any(|part| part == "..");
    if !is_plain(target) {
        let message = format!("`{}` is not an absolute path in the container", &***target);
        wrong(message, target.span, "start it with `/`, without `..`", sink);
        return None;
    }
    Some(target.value.0.clone())
}

fn port(raw: &Spanned<RawPort>, sink: &mut Sink) -> Option<Port> {
    let container = raw.container.as_ref().map(|port| port.value).filter(|port| *port > 0);
    let Some(container) = container else {
        wrong(
            "a port needs `container`, from 1 to 65535",
            raw.span,
            "write `{ container: 80 }`",
            sink,
        );
        return None;
    };
    Some(Port { container, host: raw.host.unwrap_or(0) })
}
