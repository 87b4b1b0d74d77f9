//! The executor interface, and what every executor needs.
//!
//! An executor carries out one kind of action. It receives an [`Assignment`], reports that it
//! started, ends when asked to, and returns a [`Report`]. It knows nothing of leases, tokens or the
//! coordinator. To add a kind, implement [`Executor`] in a crate beside this one;
//! [`BuiltinExecutor`] is the shortest example.

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
use kahn_model::{ActionKind, AttemptId, Failure, Outputs, Resources, Timeouts, Usage, Work};

use crate::logs::LogWriter;
use crate::secrets::GivenSecrets;

pub use builtin::BuiltinExecutor;
pub use control::{Control, Stopper, control, stopped};
pub use environment::{ALLOWED, allowed_environment, attempt_environment, traceparent};
pub use outputs::{ResultError, outputs_of_result};

/// Carries out one kind of action.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Which kind of action it carries out. It is handed no other.
    fn kind(&self) -> ActionKind;

    /// Carries out one attempt, to its end.
    ///
    /// What it must keep to:
    ///
    /// * It calls [`Control::started`] once, when the work has begun and not before.
    /// * It ends soon after [`Control::stop_requested`] gives a reason, and then reports that
    ///   reason as the cause. An end that came first is reported as it was.
    /// * It keeps the run timeout, which [`Control::stop_or_timeout`] does for it.
    /// * When it returns, nothing of the attempt is left: no process, no file, and its log is
    ///   sealed.
    async fn run(&self, assignment: Assignment, control: Control) -> Report;
}

/// One attempt, as an executor is told of it. All expressions are evaluated.
#[derive(Debug)]
pub struct Assignment {
    /// The attempt.
    pub attempt: AttemptId,
    /// The name of the task, for messages.
    pub task_name: String,
    /// What to do, and in which surroundings.
    pub work: Arc<Work>,
    /// Variables that tell a process who it is, from [`attempt_environment`]; none where there is
    /// no process. They win over those of the work.
    pub env: Vec<(String, String)>,
    /// What it is given of what is secret. It wins over the work, and `env` over it.
    pub secrets: GivenSecrets,
    /// What it may use of the machine.
    pub resources: Arc<Resources>,
    /// How long it may run, and how long it may take to stop. The other two are not the
    /// executor's business.
    pub timeouts: Timeouts,
    /// Where what the task prints goes.
    pub logs: Arc<LogWriter>,
}

impl Assignment {
    /// All environment variables of the task but those of the worker; of two of one name, the
    /// later one counts.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let of_work = self.work.env.iter().map(|(name, value)| (&**name, value.as_str()));
        let of_attempt = self.env.iter().map(|(name, value)| (&**name, &**value));
        of_work.chain(self.secrets.variables()).chain(of_attempt)
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it gave, or why it failed.
    pub outcome: Result<Outputs, Failure>,
    /// What it used.
    pub usage: Usage,
}
