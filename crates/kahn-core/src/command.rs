//! Commands for the driver, to be carried out once the changes they depend on are durable.

use std::sync::Arc;

use kahn_model::{AttemptId, Dag, Namespace, Resources, RunId, TaskIx, Token, Work};

use crate::event::SessionId;

/// Why an attempt is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The run or the task was cancelled.
    Cancelled,
    /// The attempt exceeded its queue, start or run timeout.
    TimedOut,
    /// The lease is no longer in force: another attempt replaced it, or the task has ended.
    Superseded,
}

/// A lease with everything that a worker needs to execute the attempt.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The attempt.
    pub attempt: AttemptId,
    /// The token of the lease.
    pub token: Token,
    /// The namespace of the run.
    pub namespace: Namespace,
    /// The DAG, for the name and the profile of the task.
    pub dag: Arc<Dag>,
    /// The rendered work of the task.
    pub work: Arc<Work>,
    /// Resources that the attempt holds while running; more than in its profile after it ran out of
    /// memory.
    pub resources: Arc<Resources>,
    /// Number of earlier attempts that exceeded the run timeout.
    pub timed_out: u32,
}

/// An action for the driver to carry out.
#[derive(Clone, Debug)]
pub enum Command {
    /// Sends a lease to a worker.
    Grant {
        /// The worker's session.
        session: SessionId,
        /// The lease.
        grant: Box<Grant>,
    },
    /// Tells a worker to stop an attempt and to report once it has ended.
    Stop {
        /// The worker's session.
        session: SessionId,
        /// The attempt.
        attempt: AttemptId,
        /// The token of the lease as the worker knows it.
        token: Token,
        /// The reason.
        reason: StopReason,
    },
    /// Asks a worker to return an attempt unless it has started.
    Recall {
        /// The worker's session.
        session: SessionId,
        /// The attempt.
        attempt: AttemptId,
        /// The token of its lease.
        token: Token,
    },
    /// Acknowledges a report: it is recorded or was discarded, and the worker may delete it.
    Acknowledge {
        /// The worker's session.
        session: SessionId,
        /// The attempt.
        attempt: AttemptId,
        /// The token in the report.
        token: Token,
    },
    /// Confirms a worker's attachment. It is the first message on the session.
    Welcome {
        /// The worker's session.
        session: SessionId,
    },
    /// Closes a session that a newer one has replaced.
    Disconnect {
        /// The session.
        session: SessionId,
    },
    /// Tells a worker to finish the leases it holds and then stop.
    Drain {
        /// The worker's session.
        session: SessionId,
    },
    /// Evaluates the condition and the templates of a task; the result is a
    /// [`crate::Event::Evaluated`].
    Evaluate {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskIx,
    },
    /// Tells the watchers of a run that there are new records.
    Notify {
        /// The run.
        run: RunId,
    },
}
