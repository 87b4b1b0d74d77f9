//! The failures that all executors report.

use std::time::Duration;

use kahn_model::{Cause, CauseKind, Failure};

/// Returns a failure that is the worker's fault, not the task's, such as a lack of descriptors,
/// memory or disk space. Another worker may succeed.
#[must_use]
pub fn worker_fault(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::Preempted), message)
}

/// Returns a failure for a task that cannot be started on this worker, such as one whose program,
/// image or secret is missing.
#[must_use]
pub fn cannot_start(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::Image), message)
}

/// Returns a failure for a task that the operator of this worker does not allow.
#[must_use]
pub fn forbidden(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::Policy), message)
}

/// Returns the failure of an attempt that was stopped for `reason`. `was_killed` says that it did
/// not end within its grace.
#[must_use]
pub fn stopped(reason: CauseKind, was_killed: bool, run_timeout: Option<Duration>) -> Failure {
    let why = match (reason, run_timeout) {
        (CauseKind::RunTimeout, Some(limit)) => Some(format!("ran for longer than {limit:?}")),
        _ => None,
    };
    let how = was_killed.then(|| "had to be killed".to_owned());
    let message: Vec<String> = why.into_iter().chain(how).collect();
    Failure::new(Cause::of(reason), &message.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failure_of_a_stopped_attempt_says_why_and_how() {
        let limit = Some(Duration::from_secs(2));
        let message = |reason, was_killed| stopped(reason, was_killed, limit).message.to_string();
        assert_eq!(message(CauseKind::RunTimeout, false), "ran for longer than 2s");
        let both = "ran for longer than 2s, had to be killed";
        assert_eq!(message(CauseKind::RunTimeout, true), both);
        assert_eq!(message(CauseKind::Cancelled, true), "had to be killed");
        assert_eq!(message(CauseKind::Cancelled, false), "");
    }
}
