//! The settings for a whole run.

use kahn_model::{FailurePolicy, RunPolicy};

use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::raw::{RawOnFailure, RawPolicy};

/// Checks the settings; missing ones keep their defaults.
pub(super) fn run_policy(raw: Option<&RawPolicy>, sink: &mut Sink) -> RunPolicy {
    let Some(raw) = raw else { return RunPolicy::default() };
    let on_failure = raw.on_failure.as_ref().map_or(FailurePolicy::Continue, |on_failure| {
        match on_failure.value {
            RawOnFailure::Continue => FailurePolicy::Continue,
            RawOnFailure::FailFast => FailurePolicy::FailFast,
            RawOnFailure::MaxFailures(0) => {
                let message = "`max_failures` is at least 1";
                let diagnostic = Diagnostic::error(Code::InvalidValue, message);
                sink.push(diagnostic.at(on_failure.span).help("use `fail_fast`"));
                FailurePolicy::FailFast
            }
            RawOnFailure::MaxFailures(n) => FailurePolicy::MaxFailures(n),
        }
    });
    if let Some(max) = &raw.max_parallel
        && max.value == 0
    {
        let message = "`max_parallel: 0` would let nothing run";
        sink.push(Diagnostic::error(Code::InvalidValue, message).at(max.span));
    }
    RunPolicy {
        on_failure,
        max_parallel: raw.max_parallel.as_ref().map(|max| max.value),
        timeout: raw.timeout.map(|length| length.0),
        priority: raw.priority.unwrap_or(0),
    }
}
