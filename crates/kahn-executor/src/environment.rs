//! What a task's environment holds: a few variables of the worker's, and who the task is.
//!
//! Nothing here reads the environment of the process; it is handed in, so that what a task may
//! see is decided by a list and never by default.

use std::ffi::{OsStr, OsString};

use kahn_model::AttemptId;

/// The variables of the worker that a task sees, unless the worker's configuration names others.
pub const ALLOWED: [&str; 6] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER"];

/// Of `variables`, those whose names are in `allowed`.
pub fn allowed_environment<N: AsRef<OsStr>>(
    allowed: &[N],
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    variables
        .into_iter()
        .filter(|(name, _)| allowed.iter().any(|allowed| allowed.as_ref() == name))
        .collect()
}

/// The variables that tell a task who it is: `KAHN_RUN_ID`, `KAHN_TASK`, `KAHN_ATTEMPT` (from
/// 1), `KAHN_TASK_KEY` (the same in all attempts of the task, and in no other task) and
/// `TRACEPARENT` (of [`traceparent`], unless one is given).
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

/// The W3C trace context of an attempt: the run is the trace, and the attempt is the span.
///
/// It follows from the ids alone, so that coordinator and worker name the same span without
/// having spoken of it.
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
