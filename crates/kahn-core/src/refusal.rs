//! Why a request is not granted. A refused event alters nothing.

use kahn_model::{RunId, RunState, WorkerId};

/// Why a request is not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such run.
    #[error("run {0} does not exist")]
    UnknownRun(RunId),
    /// The run has no such task.
    #[error("run {run} has no task {task}")]
    UnknownTask {
        /// The run.
        run: RunId,
        /// What was asked for.
        task: String,
    },
    /// There is no such worker.
    #[error("worker {0} is not known")]
    UnknownWorker(WorkerId),
    /// The run exists, and something else was submitted under its key.
    #[error("run {0} was submitted with other contents under the same idempotency key")]
    Conflict(RunId),
    /// The run is in a state that does not allow it.
    #[error("run {run} is {state}: {advice}")]
    WrongState {
        /// The run.
        run: RunId,
        /// Its state.
        state: RunState,
        /// What would be possible.
        advice: &'static str,
    },
    /// There is nothing in the run that the request would change.
    #[error("run {run} has no task to retry: {advice}")]
    NothingToRetry {
        /// The run.
        run: RunId,
        /// What would be possible.
        advice: &'static str,
    },
    /// The stream was replaced or never attached.
    #[error("the stream is not that of an attached worker")]
    StaleSession,
}
