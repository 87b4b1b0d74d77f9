//! A panicking executor fails its attempt, but neither the worker nor other attempts.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kahn_model::{
    Action, ActionKind, AttemptId, Cause, CauseKind, Outputs, RunId, TaskIx, Timeouts, Token,
    Usage, Uuid, Work,
};
use tokio::sync::mpsc;

use super::{Launch, Start, launch};
use crate::driver::Input;
use kahn_executor::logs::{LOG_BYTES_MAX, LogDir};
use kahn_executor::secrets::{GivenSecrets, Secrets};
use kahn_executor::{self, Assignment, Control, Executor, Report};

/// Panics in the first attempt, before or after its first await. Other attempts succeed.
struct Faulty {
    panics_at_once: bool,
}

#[async_trait]
impl Executor for Faulty {
    fn kind(&self) -> ActionKind {
        ActionKind::Builtin
    }

    async fn run(&self, assignment: Assignment, mut control: Control) -> Report {
        control.started();
        if !self.panics_at_once {
            tokio::task::yield_now().await;
        }
        assert_ne!(assignment.attempt.number, 1, "a fault");
        assignment.logs.seal();
        Report { outcome: Ok(Outputs::default()), usage: Usage::default() }
    }
}

fn launched(
    executor: &Arc<Faulty>,
    secrets: &Arc<Secrets>,
    number: u32,
    logs: &LogDir,
    inbox: &mpsc::Sender<Input>,
) -> Launch {
    let attempt = AttemptId { run: RunId::new(Uuid::from_u128(1)), task: TaskIx(0), number };
    let token = Token { epoch: 1, serial: u64::from(number), nonce: 1 };
    let start = Arc::new(Start::new(token, inbox.clone()));
    let begun = Arc::clone(&start);
    let (_stopper, control) = kahn_executor::control(move || begun.begin());
    let assignment = Assignment {
        attempt,
        namespace: None,
        task_name: "task".to_owned(),
        work: Work::new(Action::Noop).into(),
        env: Vec::new(),
        secrets: GivenSecrets::none(),
        resources: Arc::default(),
        timeouts: Timeouts::default(),
        logs: Arc::new(logs.writer(attempt)),
        is_resumed: false,
    };
    let executor: Arc<dyn Executor> = Arc::<Faulty>::clone(executor);
    let secrets = Arc::clone(secrets);
    Launch { executor, secrets, assignment, control, start, shipping: None, token }
}

#[tokio::test]
async fn an_executor_that_panics_gives_its_attempt_up_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let logs = LogDir::open(dir.path(), LOG_BYTES_MAX).unwrap();
    let secrets = Secrets::open(&BTreeMap::new(), &[], Some(dir.path()), dir.path()).unwrap();
    let secrets = Arc::new(secrets);
    for panics_at_once in [true, false] {
        let executor = Arc::new(Faulty { panics_at_once });
        let (inbox, mut inputs) = mpsc::channel(16);
        let launches =
            (1..=3).map(|number| launched(&executor, &secrets, number, &logs, &inbox)).collect();
        launch(launches, &inbox);
        let mut outcomes = BTreeMap::new();
        while outcomes.len() < 3 {
            if let Input::Ended(ended) = inputs.recv().await.unwrap() {
                outcomes
                    .extend(ended.into_iter().map(|end| (end.token.serial, end.report.outcome)));
            }
        }
        let failure = outcomes.remove(&1).unwrap().unwrap_err();
        assert_eq!(failure.cause, Cause::of(CauseKind::Preempted));
        assert!(failure.message.contains("panicked"), "{failure}");
        assert!(outcomes.values().all(Result::is_ok), "{outcomes:?}");
    }
}
