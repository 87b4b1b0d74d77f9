//! The environment variables of tasks: a few inherited from the worker, and the identity of the
//! attempt.
//!
//! Nothing here reads the environment of the process. It is passed in, so that tasks inherit only
//! variables that are explicitly allowed.

use std::ffi::{OsStr, OsString};

use kahn_model::AttemptId;

/// The worker's variables that tasks inherit, unless configured otherwise.
pub const ALLOWED: [&str; 6] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER"];

/// Returns those of `variables` whose names are in `allowed`.
pub fn allowed_environment<N: AsRef<OsStr>>(
    allowed: &[N],
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    variables
        .into_iter()
        .filter(|(name, _)| allowed.iter().any(|allowed| allowed.as_ref() == name))
        .collect()
}

/// Returns the variables that identify an attempt: `KAHN_RUN_ID`, `KAHN_TASK`, `KAHN_ATTEMPT` (from
/// 1), `KAHN_TASK_KEY` (the same for all attempts of the task, and unique to it), and `TRACEPARENT`
/// (from [`traceparent`], unless one is given).
#[must_use]
pub fn attempt_environment(
    attempt: AttemptId,
    task_name: &str,
    trace: Option<&str>,
) -> Vec<(String, String)> {
    let trace = trace.map_or_else(|| traceparent(attempt), str::to_owned);
    [
        ("KAHN_RUN_ID", attempt.run.to_string()),
        ("KAHN_TASK", task_name.to_owned()),
        ("KAHN_ATTEMPT", attempt.number.to_string()),
        ("KAHN_TASK_KEY", format!("{}.{}", attempt.run, attempt.task.0)),
        ("TRACEPARENT", trace),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Returns the W3C trace context of an attempt: the run is the trace, and the attempt is the span.
///
/// It is derived from the ids alone, so that coordinator and worker use the same span without
/// exchanging it.
#[must_use]
pub fn traceparent(attempt: AttemptId) -> String {
    let trace = u128::from_be_bytes(*attempt.run.as_bytes());
    format!("00-{trace:032x}-{:08x}{:08x}-01", attempt.task.0, attempt.number)
}

#[cfg(test)]
mod tests {
    use kahn_model::{RunId, TaskIx};

    use super::*;

    fn attempt(number: u32) -> AttemptId {
        let run = "0190a5b4-0000-7000-8000-000000000001".parse::<RunId>().unwrap();
        AttemptId { run, task: TaskIx(17), number }
    }

    #[test]
    fn the_task_key_is_stable_over_attempts_and_the_span_is_not() {
        let value = |number, wanted: &str| {
            attempt_environment(attempt(number), "load", None)
                .into_iter()
                .find_map(|(name, value)| (name == wanted).then_some(value))
                .unwrap()
        };
        assert_eq!(value(1, "KAHN_TASK_KEY"), value(2, "KAHN_TASK_KEY"));
        assert_eq!(value(2, "KAHN_ATTEMPT"), "2");
        assert_eq!(
            value(2, "TRACEPARENT"),
            "00-0190a5b4000070008000000000000001-0000001100000002-01"
        );
    }

    #[test]
    fn variables_off_the_list_are_not_handed_on() {
        let variables = ["PATH", "AWS_SECRET_ACCESS_KEY", "KAHN_TOKEN", "PATHS"]
            .map(|name| (OsString::from(name), OsString::from("x")));
        let allowed = allowed_environment(&ALLOWED, variables);
        assert_eq!(allowed, [("PATH".into(), "x".into())]);
    }
}
