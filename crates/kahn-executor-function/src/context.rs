//! What a function is told of its attempt.

use std::fmt::Display;
use std::sync::{Arc, OnceLock};

use kahn_model::{AttemptId, Work};
use tokio_util::sync::CancellationToken;

use kahn_executor::logs::LogWriter;
use kahn_executor::secrets::GivenSecrets;
use kahn_executor::{Assignment, attempt_environment};

/// What a function is told of its attempt, and how it speaks. Clones are the same attempt.
#[derive(Clone, Debug)]
pub struct FunctionContext {
    attempt: AttemptId,
    task: Arc<str>,
    work: Arc<Work>,
    /// What is asked for by few.
    own_variables: Arc<OnceLock<Vec<(String, String)>>>,
    secrets: GivenSecrets,
    logs: Arc<LogWriter>,
    cancellation: CancellationToken,
}

impl FunctionContext {
    pub(super) fn new(assignment: &Assignment) -> Self {
        Self {
            attempt: assignment.attempt,
            task: assignment.task_name.as_str().into(),
            work: Arc::clone(&assignment.work),
            own_variables: Arc::default(),
            secrets: assignment.secrets.clone(),
            logs: Arc::clone(&assignment.logs),
            cancellation: CancellationToken::new(),
        }
    }

    /// Whether what it says may hold a secret.
    pub(super) fn has_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// The run, the task and the number of the attempt, which starts at 1.
    #[must_use]
    pub fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// The name of the task.
    #[must_use]
    pub fn task(&self) -> &str {
        &self.task
    }

    /// What is the same in all attempts of the task, for whoever must not do a thing twice.
    #[must_use]
    pub fn task_key(&self) -> String {
        format!("{}.{}", self.attempt.run, self.attempt.task.0)
    }

    /// An environment variable of the task, `KAHN_…` and secrets included.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        let own =
            self.own_variables.get_or_init(|| attempt_environment(self.attempt, &self.task, None));
        let own = own.iter().map(|(name, value)| (&**name, &**value));
        let of_work = self.work.env.iter().map(|(name, value)| (&**name, value.as_str()));
        // As everywhere, what tells the task who it is cannot be replaced.
        let mut all = own.chain(self.secrets.variables()).chain(of_work);
        all.find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Adds a line to the log of the attempt.
    pub fn log(&self, line: impl Display) {
        self.logs.append(format!("{line}\n").as_bytes());
    }

    /// Tells in the log how far the work has come.
    pub fn progress(&self, done: u64, total: u64) {
        self.log(format_args!("progress: {done} of {total}"));
    }

    /// Is cancelled when the attempt is to end: it was cancelled, or took too long.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// Whether the attempt is to end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }
}
