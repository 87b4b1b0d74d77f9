//! The context that a function receives.

use std::fmt::Display;
use std::sync::{Arc, OnceLock};

use kahn_model::{AttemptId, Work};
use tokio_util::sync::CancellationToken;

use kahn_executor::logs::LogWriter;
use kahn_executor::secrets::GivenSecrets;
use kahn_executor::{Assignment, attempt_environment};

/// Identifies the attempt to a function and writes to its log. Clones share the attempt.
#[derive(Clone, Debug)]
pub struct FunctionContext {
    attempt: AttemptId,
    task: Arc<str>,
    work: Arc<Work>,
    /// Computed on first use, since few functions use them.
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

    /// Returns whether its messages may contain a secret.
    pub(super) fn has_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// Returns the id of the attempt: run, task and number, which starts at 1.
    #[must_use]
    pub fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// Returns the name of the task.
    #[must_use]
    pub fn task(&self) -> &str {
        &self.task
    }

    /// Returns a key that is the same for all attempts of the task, for use as an idempotency key.
    #[must_use]
    pub fn task_key(&self) -> String {
        format!("{}.{}", self.attempt.run, self.attempt.task.0)
    }

    /// Returns an environment variable of the task, including secrets and `KAHN_…`.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        let own =
            self.own_variables.get_or_init(|| attempt_environment(self.attempt, &self.task, None));
        let own = own.iter().map(|(name, value)| (&**name, &**value));
        let of_work = self.work.env.iter().map(|(name, value)| (&**name, value.as_str()));
        // As in all executors, variables that identify the attempt cannot be overridden.
        let mut all = own.chain(self.secrets.variables()).chain(of_work);
        all.find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Appends a line to the log of the attempt.
    pub fn log(&self, line: impl Display) {
        self.logs.append(format!("{line}\n").as_bytes());
    }

    /// Logs the progress of the work.
    pub fn progress(&self, done: u64, total: u64) {
        self.log(format_args!("progress: {done} of {total}"));
    }

    /// Returns a token that is cancelled when the attempt should end, because it was cancelled or
    /// timed out.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// Returns whether the attempt should end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }
}
