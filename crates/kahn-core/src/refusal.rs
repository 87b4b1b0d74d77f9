//! Reasons why a request is refused. A refused event does not change the state.

use kahn_model::{RunId, RunState, WorkerId};

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The run does not exist.
    #[error("run {0} does not exist")]
    UnknownRun(RunId),
    /// The run has no task with this name.
    #[error("run {run} has no task {task}")]
    UnknownTask {
        /// The run.
        run: RunId,
        /// The name in the request.
        task: String,
    },
    /// The worker is unknown.
    #[error("worker {0} is not known")]
    UnknownWorker(WorkerId),
    /// Another submission used the same idempotency key.
    #[error("run {0} was submitted with other contents under the same idempotency key")]
    Conflict(RunId),
    /// The run's state does not allow the request.
    #[error("run {run} is {state}: {advice}")]
    WrongState {
        /// The run.
        run: RunId,
        /// Its state.
        state: RunState,
        /// What the caller can do instead.
        advice: &'static str,
    },
    /// The run is archived, and the request needs all of it.
    #[error("run {0} is archived and has to be restored first")]
    Archived(RunId),
    /// What was read as an archived run is not that run.
    #[error("the archive of run {0} does not match what is known of the run")]
    WrongArchive(RunId),
    /// The request would not change anything in the run.
    #[error("run {run} has no task to retry: {advice}")]
    NothingToRetry {
        /// The run.
        run: RunId,
        /// What the caller can do instead.
        advice: &'static str,
    },
    /// The session was replaced by a newer one or never attached.
    #[error("the stream is not that of an attached worker")]
    StaleSession,
}
