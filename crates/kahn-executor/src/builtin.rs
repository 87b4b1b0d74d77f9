//! Executes `noop` and `sleep`, the actions without side effects.

use async_trait::async_trait;
use kahn_model::{Action, ActionKind, Cause, CauseKind, Failure, Outputs, Usage};
use tokio::time::Instant;

use super::failure;
use super::{Assignment, Control, Executor, Report};

/// Executes `noop` and `sleep`.
#[derive(Clone, Copy, Debug, Default)]
pub struct BuiltinExecutor;

#[async_trait]
impl Executor for BuiltinExecutor {
    fn kind(&self) -> ActionKind {
        ActionKind::Builtin
    }

    async fn run(&self, assignment: Assignment, mut control: Control) -> Report {
        let started_at = Instant::now();
        control.started();
        let outcome = match assignment.work.action {
            Action::Noop => Ok(Outputs::default()),
            Action::Sleep { duration } => tokio::select! {
                biased;
                reason = control.stop_or_timeout(assignment.timeouts.run) => {
                    Err(failure::stopped(reason, false, assignment.timeouts.run))
                }
                () = tokio::time::sleep(duration) => Ok(Outputs::default()),
            },
            _ => Err(Failure::new(
                Cause::of(CauseKind::Infeasible),
                "this executor carries out `noop` and `sleep` only",
            )),
        };
        let usage = match assignment.work.action {
            Action::Noop => Usage::default(),
            _ => Usage { elapsed: started_at.elapsed(), ..Usage::default() },
        };
        assignment.logs.seal();
        Report { outcome, usage }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kahn_model::{AttemptId, RunId, TaskIx, Timeouts, Work};

    use super::*;
    use crate::control;
    use crate::logs::{LOG_BYTES_MAX, LogDir};

    fn assignment(action: Action) -> Assignment {
        let run = RunId::from_slice(&[1; 16]).unwrap();
        let attempt = AttemptId { run, task: TaskIx(0), number: 1 };
        let dir = tempfile::tempdir().unwrap();
        Assignment {
            attempt,
            namespace: None,
            task_name: "task".to_owned(),
            work: Work::new(action).into(),
            env: Vec::new(),
            secrets: crate::secrets::GivenSecrets::none(),
            resources: std::sync::Arc::default(),
            timeouts: Timeouts::default(),
            logs: LogDir::open(dir.path(), LOG_BYTES_MAX).unwrap().writer(attempt).into(),
            is_resumed: false,
        }
    }

    fn sleep(seconds: u64) -> Assignment {
        assignment(Action::Sleep { duration: Duration::from_secs(seconds) })
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_takes_its_time_and_succeeds() {
        let (_stopper, control) = control(|| ());
        let report = BuiltinExecutor.run(sleep(60), control).await;
        assert_eq!(report.outcome, Ok(Outputs::default()));
        assert_eq!(report.usage.elapsed, Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_ends_when_asked_to_or_when_its_time_is_up() {
        let (stopper, control_of_first) = control(move || ());
        stopper.stop(CauseKind::Cancelled);
        let report = BuiltinExecutor.run(sleep(60), control_of_first).await;
        assert_eq!(report.outcome, Err(Failure::of(CauseKind::Cancelled)));
        assert_eq!(report.usage.elapsed, Duration::ZERO);

        let (_stopper, control) = control(|| ());
        let mut assignment = sleep(60);
        assignment.timeouts.run = Some(Duration::from_secs(5));
        let report = BuiltinExecutor.run(assignment, control).await;
        let failure = Failure::new(Cause::of(CauseKind::RunTimeout), "ran for longer than 5s");
        assert_eq!(report.outcome, Err(failure));
        assert_eq!(report.usage.elapsed, Duration::from_secs(5));
    }

    #[tokio::test]
    async fn a_noop_starts_and_succeeds() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (_stopper, control) = control(move || sender.send(()).unwrap());
        let report = BuiltinExecutor.run(assignment(Action::Noop), control).await;
        assert_eq!(report.outcome, Ok(Outputs::default()));
        receiver.await.unwrap();
    }
}
