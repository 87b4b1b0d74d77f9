//! A lease: the right of a worker to execute an attempt.

use std::sync::Arc;

use kahn_model::{AttemptId, BootId, CauseKind, Resources, RunId, TaskIx, Timestamp, Token};

use super::classes::ClassIx;
use super::run::RunIx;
use super::timers::Timer;
use super::worker::WorkerIx;

/// Index of a lease in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseIx(pub(crate) u32);

/// The phase of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LeasePhase {
    /// Granted, but the worker has no room for it yet.
    Ahead,
    /// Granted, and the worker has room for it.
    Placed,
    /// The attempt has started.
    Started,
}

/// A time-bounded right to execute one attempt.
///
/// All leases of a worker expire together when the worker has been silent for too long. Reports are
/// checked by token, not by time.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The token that every report must carry.
    pub token: Token,
    /// The number of the attempt.
    pub number: u32,
    /// The task.
    pub task: TaskIx,
    /// The run.
    pub run_id: RunId,
    /// The boot id of the worker that received it.
    pub boot: BootId,
    /// Since when its task was ready.
    pub ready_at: Timestamp,
    /// When it was granted.
    pub granted_at: Timestamp,
    /// When its attempt started.
    pub started_at: Option<Timestamp>,
    pub(crate) run: RunIx,
    pub(crate) worker: WorkerIx,
    pub(crate) class: ClassIx,
    pub(crate) phase: LeasePhase,
    /// When its start or run timer is due, if one is set.
    pub(crate) due: Option<Timestamp>,
    /// Whether the worker was asked to stop the attempt.
    pub(crate) is_stopping: bool,
    /// The queue or start timeout that it exceeded. Its attempt fails with this cause once the
    /// worker confirms its end, or is lost.
    pub(crate) exceeded: Option<CauseKind>,
    /// Whether the worker was asked to return the attempt.
    pub(crate) is_recalled: bool,
    /// The age that its task had in the ready set; zero if unknown.
    pub(crate) age: u32,
    /// The resources it takes from the worker once it is placed.
    pub(crate) resources: Arc<Resources>,
}

impl Lease {
    /// Returns the attempt.
    #[must_use]
    pub fn attempt(&self) -> AttemptId {
        AttemptId { run: self.run_id, task: self.task, number: self.number }
    }

    /// Returns the timer for its current phase.
    pub(crate) fn timer(&self) -> Timer {
        match self.phase {
            LeasePhase::Ahead | LeasePhase::Placed => {
                Timer::Start(self.run_id, self.task, self.token)
            }
            LeasePhase::Started => Timer::Run(self.run_id, self.task, self.token),
        }
    }

    /// Returns whether its resources are subtracted from the worker's room.
    #[must_use]
    pub fn holds_resources(&self) -> bool {
        self.phase != LeasePhase::Ahead
    }
}
