//! A function executor and assignments for it.

use std::sync::Arc;
use std::time::Duration;

use kahn_executor::Assignment;
use kahn_executor::testing::{self, Assignments, Ended, Running};
use kahn_executor_function::{FunctionExecutor, FunctionSettings, Functions};
use kahn_model::{Action, CauseKind, FunctionCall, Text, Work};

const GRACE: Duration = Duration::from_millis(200);

pub(crate) struct Rig {
    executor: Arc<FunctionExecutor>,
    assignments: Assignments,
    _dir: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new(functions: Functions) -> Self {
        let settings = FunctionSettings { concurrency: 2, threads: Some(1) };
        let executor = FunctionExecutor::open(functions, &settings, GRACE).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let assignments = Assignments::new(dir.path());
        Self { executor: Arc::new(executor), assignments, _dir: dir }
    }

    pub(crate) fn executor(&self) -> &FunctionExecutor {
        &self.executor
    }

    pub(crate) fn assignment(&self, name: &str, input: &str) -> Assignment {
        let call = FunctionCall { name: name.into(), input: Text::new(input) };
        let mut work = Work::new(Action::Function(Box::new(call)));
        work.env.push(("COLOUR".into(), Text::new("red")));
        self.assignments.next(work)
    }

    pub(crate) fn start(&self, assignment: Assignment) -> Running {
        testing::start(&self.executor, assignment)
    }

    pub(crate) async fn call(&self, name: &str, input: &str) -> Ended {
        self.start(self.assignment(name, input)).ended().await
    }
}

pub(crate) fn functions(add: impl FnOnce(&mut Functions)) -> Functions {
    let mut functions = Functions::default();
    add(&mut functions);
    functions
}

pub(crate) fn cause(ended: &Ended) -> (CauseKind, String) {
    let failure = ended.failure();
    (failure.cause.kind, failure.message.to_string())
}
