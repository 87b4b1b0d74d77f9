//! The executor interface, and what all executors share.
//!
//! An executor executes one kind of action. It receives an [`Assignment`], reports that it started,
//! stops on request, and returns a [`Report`]. It is independent of leases, tokens and the
//! coordinator. To add a kind, implement [`Executor`] in a separate crate; [`BuiltinExecutor`] is
//! the shortest example.

pub mod failure;
pub mod logs;
pub mod output_file;
pub mod secrets;
#[cfg(feature = "testing")]
pub mod testing;

mod builtin;
mod control;
mod environment;
mod outputs;

use std::sync::Arc;

use async_trait::async_trait;
use kahn_model::{
    ActionKind, AttemptId, Failure, Namespace, Outputs, Resources, Timeouts, Usage, Work,
};

use crate::logs::LogWriter;
use crate::secrets::GivenSecrets;

pub use builtin::BuiltinExecutor;
pub use control::{Control, Stopper, control};
pub use environment::{ALLOWED, allowed_environment, attempt_environment, traceparent};
pub use outputs::{ResultError, outputs_of_result};

/// Executes one kind of action.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Returns the kind of action that it executes. It never receives another kind.
    fn kind(&self) -> ActionKind;

    /// Returns whether attempts go on without the worker's process. Another start of the worker
    /// passes such an attempt to the executor again, with [`Assignment::is_resumed`].
    fn outlives_worker(&self) -> bool {
        false
    }

    /// Executes one attempt until its end.
    ///
    /// Requirements:
    ///
    /// * It calls [`Control::started`] once, when the work has started and not before.
    /// * It ends soon after [`Control::stop_requested`] returns a reason, and then reports that
    ///   reason as the cause. If the attempt ended before, it reports that outcome.
    /// * It enforces the run timeout, for which [`Control::stop_or_timeout`] suffices.
    /// * When it returns, nothing of the attempt is left: all processes are dead, all files are
    ///   removed, and the log is sealed.
    async fn run(&self, assignment: Assignment, control: Control) -> Report;
}

/// One attempt for an executor. All expressions are evaluated.
#[derive(Debug)]
pub struct Assignment {
    /// The id of the attempt.
    pub attempt: AttemptId,
    /// The namespace of the run, if the coordinator sends it.
    pub namespace: Option<Namespace>,
    /// The name of the task, for messages.
    pub task_name: String,
    /// The action and its environment.
    pub work: Arc<Work>,
    /// The variables that identify the attempt, from [`attempt_environment`]; empty if there is no
    /// process. They override those of the work.
    pub env: Vec<(String, String)>,
    /// The secrets of the task. They override the work's variables and are overridden by `env`.
    pub secrets: GivenSecrets,
    /// The resources that it may use.
    pub resources: Arc<Resources>,
    /// The run timeout and the grace period. The other timeouts are not enforced by executors.
    pub timeouts: Timeouts,
    /// Receives the task's output.
    pub logs: Arc<LogWriter>,
    /// Whether an earlier start of the worker may have begun with the attempt. Its log then has what
    /// was logged until then.
    pub is_resumed: bool,
}

impl Assignment {
    /// Iterates over all environment variables of the task except the worker's. The last of several
    /// variables with the same name wins.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let of_work = self.work.env.iter().map(|(name, value)| (&**name, value.as_str()));
        let of_attempt = self.env.iter().map(|(name, value)| (&**name, &**value));
        of_work.chain(self.secrets.variables()).chain(of_attempt)
    }
}

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its outputs, or why it failed.
    pub outcome: Result<Outputs, Failure>,
    /// The resources that it used.
    pub usage: Usage,
}

impl Report {
    /// Returns the report of an attempt of which nothing was run.
    #[must_use]
    pub fn not_run(failure: Failure) -> Self {
        Self { outcome: Err(failure), usage: Usage::default() }
    }
}
