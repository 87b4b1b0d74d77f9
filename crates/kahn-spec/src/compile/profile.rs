//! How to run a task: defaults and task settings, merged field by field.

mod limits;
mod selector;

use kahn_model::{LabelRule, OnDisconnect, Profile, Resource, Resources};

use super::groups::Group;
use super::work::RawAction;
use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::lenient::Scalar;
use crate::raw::{Entries, RawDefaults, RawLength, RawOnDisconnect};
use crate::span::Spanned;

/// The defaults for all tasks.
pub(super) struct Base<'a> {
    defaults: Option<&'a RawDefaults>,
    /// The profiles of tasks without own settings: for tasks that do not compute, and for those
    /// that do.
    plain: [Profile; 2],
}

impl<'a> Base<'a> {
    pub(super) fn new(defaults: Option<&'a RawDefaults>, sink: &mut Sink) -> Self {
        let plain = [false, true].map(|computes| merged(defaults, None, computes, sink));
        Self { defaults, plain }
    }

    /// Returns the expected run time of a task.
    pub(super) fn estimate(&self) -> Option<RawLength> {
        self.defaults.and_then(|defaults| defaults.estimate)
    }

    /// Returns the profile of a task of the file.
    pub(super) fn profile(
        &self,
        group: &Group<'_>,
        action: &RawAction<'_>,
        sink: &mut Sink,
    ) -> Profile {
        let mut profile = self.profile_of(group, action.computes(), sink);
        if let Some(key) = action.label() {
            profile.selector.required.push(LabelRule::Exists { key });
        }
        profile
    }

    fn profile_of(&self, group: &Group<'_>, computes: bool, sink: &mut Sink) -> Profile {
        let raw = group.raw;
        let is_plain = raw.retry.is_none()
            && raw.timeout.is_none()
            && raw.timeouts.is_none()
            && raw.circuit.is_none()
            && raw.concurrency.is_none()
            && raw.priority.is_none()
            && raw.resources.is_none()
            && raw.labels.is_none()
            && raw.on_disconnect.is_none();
        if is_plain {
            return self.plain[usize::from(computes)].clone();
        }
        merged(self.defaults, Some(group), computes, sink)
    }
}

/// Returns the value of the task, or else the default.
fn last<'a, T>(default: Option<&'a T>, own: Option<&'a T>) -> Option<&'a T> {
    own.or(default)
}

fn merged(
    defaults: Option<&RawDefaults>,
    group: Option<&Group<'_>>,
    computes: bool,
    sink: &mut Sink,
) -> Profile {
    let raw = group.map(|group| group.raw);
    let layers_retry =
        [defaults.and_then(|d| d.retry.as_deref()), raw.and_then(|task| task.retry.as_deref())];
    let layers_timeouts = [
        (defaults.and_then(|d| d.timeout.as_ref()), defaults.and_then(|d| d.timeouts.as_deref())),
        (raw.and_then(|t| t.timeout.as_ref()), raw.and_then(|t| t.timeouts.as_deref())),
    ];
    let concurrency = last(
        defaults.and_then(|d| d.concurrency.as_deref()),
        raw.and_then(|task| task.concurrency.as_deref()),
    );
    let circuit = last(
        defaults.and_then(|d| d.circuit.as_deref()),
        raw.and_then(|task| task.circuit.as_deref()),
    );
    let labels =
        [defaults.and_then(|d| d.labels.as_deref()), raw.and_then(|task| task.labels.as_deref())];
    let on_disconnect =
        raw.and_then(|t| t.on_disconnect).or(defaults.and_then(|d| d.on_disconnect));
    let priority = raw.and_then(|t| t.priority).or(defaults.and_then(|d| d.priority));
    let (retry, retry_exceptions) = limits::retry(layers_retry, sink);
    Profile {
        resources: resources(defaults, group, computes, sink),
        selector: selector::selector(labels, sink),
        retry,
        retry_exceptions,
        timeouts: limits::timeouts(layers_timeouts, sink),
        priority: priority.unwrap_or(0),
        concurrency: limits::concurrency(concurrency, sink),
        circuit: circuit.and_then(|circuit| limits::circuit(circuit, sink)),
        on_disconnect: match on_disconnect {
            None | Some(RawOnDisconnect::Keep) => OnDisconnect::Keep,
            Some(RawOnDisconnect::Stop) => OnDisconnect::Stop,
        },
    }
}

/// Tasks that compute request one processor and the default resources. Other tasks request only the
/// resources that they list themselves.
fn resources(
    defaults: Option<&RawDefaults>,
    group: Option<&Group<'_>>,
    computes: bool,
    sink: &mut Sink,
) -> Resources {
    let mut out = if computes { Resources::cpu_milli(1000) } else { Resources::none() };
    if computes && let Some(entries) = defaults.and_then(|d| d.resources.as_deref()) {
        set_resources(&mut out, entries, sink);
    }
    if let Some(entries) = group.and_then(|group| group.raw.resources.as_deref()) {
        set_resources(&mut out, entries, sink);
    }
    out
}

fn set_resources(out: &mut Resources, entries: &Entries<Spanned<Scalar>>, sink: &mut Sink) {
    for (name, amount) in &entries.0 {
        let parsed =
            Resource::parse(name).map_err(|error| (error, name.span)).and_then(|resource| {
                match resource.parse_amount(amount) {
                    Ok(amount) => Ok((resource, amount)),
                    Err(error) => Err((error, amount.span)),
                }
            });
        match parsed {
            Ok((resource, amount)) => out.set(&resource, amount),
            Err((error, span)) => {
                sink.push(Diagnostic::error(Code::InvalidValue, error.to_string()).at(span));
            }
        }
    }
}
