//! What the driver must do once the changes that a command rests on are durable.

use std::sync::Arc;

use kahn_model::{AttemptId, Dag, Resources, RunId, TaskIx, Token, Work};

use crate::event::SessionId;

/// Why an attempt is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Its run or task was called off.
    Cancelled,
    /// It took longer to start or to run than it may.
    TimedOut,
    /// Its lease is not in force: another attempt took its place, or its task has ended.
    Superseded,
}

/// A lease, with all that a worker needs to carry out the attempt.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The attempt.
    pub attempt: AttemptId,
    /// The token of the lease.
    pub token: Token,
    /// The DAG, for the task's name and profile.
    pub dag: Arc<Dag>,
    /// The task's work, rendered.
    pub work: Arc<Work>,
    /// What the attempt holds while it runs: more than its profile says after it ran out of memory.
    pub resources: Arc<Resources>,
    /// How many earlier attempts ran into the run timeout.
    pub timed_out: u32,
}

/// Something to be done outside.
#[derive(Clone, Debug)]
pub enum Command {
    /// Sends a lease to a worker.
    Grant {
        /// Its stream.
        session: SessionId,
        /// The lease.
        grant: Box<Grant>,
    },
    /// Tells a worker to stop an attempt and to report when it is dead.
    Stop {
        /// Its stream.
        session: SessionId,
        /// The attempt.
        attempt: AttemptId,
        /// The token of the lease that the worker believes in.
        token: Token,
        /// Why.
        reason: StopReason,
    },
    /// Asks a worker to give an attempt back unless it has started.
    Recall {
        /// Its stream.
        session: SessionId,
        /// The attempt.
        attempt: AttemptId,
        /// The token of its lease.
        token: Token,
    },
    /// Tells a worker that its report is recorded, or never will be, and may be forgotten.
    Acknowledge {
        /// Its stream.
        session: SessionId,
        /// The attempt.
        attempt: AttemptId,
        /// The token in the report.
        token: Token,
    },
    /// Answers a worker that attached; nothing else goes to its stream before this.
    Welcome {
        /// Its stream.
        session: SessionId,
    },
    /// Ends a stream that another has replaced.
    Disconnect {
        /// The stream.
        session: SessionId,
    },
    /// Tells a worker to finish what it holds and to stop.
    Drain {
        /// Its stream.
        session: SessionId,
    },
    /// Evaluates a task's condition and texts, and comes back with [`crate::Event::Evaluated`].
    Evaluate {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskIx,
    },
    /// Tells the watchers of a run that there is more to see.
    Notify {
        /// The run.
        run: RunId,
    },
}
