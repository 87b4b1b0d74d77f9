//! One lease: who may work on what.

use std::sync::Arc;

use kahn_model::{AttemptId, BootId, Resources, RunId, TaskIx, Timestamp, Token};

use super::classes::ClassIx;
use super::run::RunIx;
use super::timers::Timer;
use super::worker::WorkerIx;

/// Position of a lease in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseIx(pub(crate) u32);

/// How far a lease has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LeasePhase {
    /// Granted; waits on the worker for room.
    Ahead,
    /// Granted; the worker has room for it.
    Placed,
    /// The attempt has started.
    Started,
}

/// A time-bounded right to carry out one attempt.
///
/// Its time is that of its worker: a lease lives for as long as its worker is heard from. The
/// token, not the time, decides who is right.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The token that every report must bear.
    pub token: Token,
    /// Which attempt.
    pub number: u32,
    /// The task.
    pub task: TaskIx,
    /// The run.
    pub run_id: RunId,
    /// Which start of the worker got it.
    pub boot: BootId,
    /// When it was granted.
    pub granted_at: Timestamp,
    /// When its attempt started.
    pub started_at: Option<Timestamp>,
    pub(crate) run: RunIx,
    pub(crate) worker: WorkerIx,
    pub(crate) class: ClassIx,
    pub(crate) phase: LeasePhase,
    /// When the timer that watches over its start or its end is due, if one does.
    pub(crate) due: Option<Timestamp>,
    /// The worker was asked to stop the attempt.
    pub(crate) is_stopping: bool,
    /// The worker was asked to give the attempt back.
    pub(crate) is_recalled: bool,
    /// The turn among the ready that its task gave up for it; zero when that is not known.
    pub(crate) age: u32,
    /// What it takes of the worker once it is placed.
    pub(crate) resources: Arc<Resources>,
}

impl Lease {
    /// The attempt.
    #[must_use]
    pub fn attempt(&self) -> AttemptId {
        AttemptId { run: self.run_id, task: self.task, number: self.number }
    }

    /// The timer that watches over it now.
    pub(crate) fn timer(&self) -> Timer {
        match self.phase {
            LeasePhase::Ahead | LeasePhase::Placed => {
                Timer::Start(self.run_id, self.task, self.token)
            }
            LeasePhase::Started => Timer::Run(self.run_id, self.task, self.token),
        }
    }

    /// Whether its resources are taken from the worker's room.
    #[must_use]
    pub fn holds_resources(&self) -> bool {
        self.phase != LeasePhase::Ahead
    }
}
