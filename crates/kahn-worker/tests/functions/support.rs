//! An executor of functions, and what it is handed.

use std::sync::Arc;
use std::time::Duration;

use kahn_model::{
    Action, AttemptId, CauseKind, FunctionCall, Outputs, RunId, TaskIx, Text, Timeouts, Work,
};
use kahn_worker::executor::{
    Assignment, Executor as _, FunctionExecutor, FunctionSettings, Functions, Report, Stopper,
    control,
};
use kahn_worker::logs::{LOG_BYTES_MAX, LogDir};
use kahn_worker::secrets::GivenSecrets;

const GRACE: Duration = Duration::from_millis(200);

pub(crate) struct Rig {
    pub(crate) executor: Arc<FunctionExecutor>,
    dir: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new(functions: Functions) -> Self {
        let settings = FunctionSettings { concurrency: 2, threads: Some(1) };
        let executor = FunctionExecutor::open(functions, &settings, GRACE).unwrap();
        Self { executor: Arc::new(executor), dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn assignment(&self, name: &str, input: &str) -> Assignment {
        let run = RunId::from_slice(&[1; 16]).unwrap();
        let attempt = AttemptId { run, task: TaskIx(7), number: 2 };
        let call = FunctionCall { name: name.into(), input: Text::new(input) };
        let mut work = Work::new(Action::Function(Box::new(call)));
        work.env.push(("COLOUR".into(), Text::new("red")));
        Assignment {
            attempt,
            task_name: "task".to_owned(),
            work: work.into(),
            env: vec![("KAHN_TASK".into(), "task".into())],
            secrets: GivenSecrets::none(),
            resources: Arc::default(),
            timeouts: Timeouts::default(),
            logs: Arc::new(LogDir::open(self.dir.path(), LOG_BYTES_MAX).unwrap().writer(attempt)),
        }
    }

    pub(crate) fn spawn(
        &self,
        assignment: Assignment,
    ) -> (Stopper, tokio::task::JoinHandle<Report>) {
        let (stopper, control) = control(|| ());
        let executor = Arc::clone(&self.executor);
        (stopper, tokio::spawn(async move { executor.run(assignment, control).await }))
    }

    pub(crate) async fn call(&self, name: &str, input: &str) -> Report {
        self.spawn(self.assignment(name, input)).1.await.unwrap()
    }

    pub(crate) fn log(&self) -> String {
        let entry = std::fs::read_dir(self.dir.path()).unwrap().next().unwrap().unwrap();
        std::fs::read_to_string(entry.path()).unwrap()
    }
}

pub(crate) fn functions(add: impl FnOnce(&mut Functions)) -> Functions {
    let mut functions = Functions::default();
    add(&mut functions);
    functions
}

pub(crate) fn texts(outputs: &Outputs) -> Vec<String> {
    outputs.0.iter().map(|(name, value)| format!("{name}={}", value.as_json())).collect()
}

pub(crate) fn cause(report: &Report) -> (CauseKind, String) {
    let failure = report.outcome.as_ref().unwrap_err();
    (failure.cause.kind, failure.message.to_string())
}
