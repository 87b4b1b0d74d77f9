//! What may happen to the core, as somebody outside observed it.

use std::sync::Arc;

use kahn_model::{
    ActionKind, Admission, AttemptId, BootId, Failure, Labels, Outputs, Resources, RunId, TaskIx,
    Token, Usage, Work, WorkerId,
};

use crate::change::Submission;

/// One stream of one worker; the driver numbers them, and a later one replaces an earlier one.
///
/// The number must be given, and the worker must know that it was, before the worker says what it
/// holds: only then is the order of the numbers that in which the worker opened its streams,
/// however late their contents arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Something that happened outside. It may be late, repeated or false.
#[derive(Clone, Debug)]
pub enum Event {
    /// Somebody wants a run.
    Submitted(Arc<Submission>),
    /// Somebody calls a run off.
    CancelRequested {
        /// The run.
        run: RunId,
        /// Why, in the words of whoever asked.
        reason: Box<str>,
    },
    /// Somebody wants nothing new of a run to start.
    PauseRequested {
        /// The run.
        run: RunId,
    },
    /// Somebody wants a paused run to go on.
    ResumeRequested {
        /// The run.
        run: RunId,
    },
    /// Somebody wants a finished run to be tried again.
    RetryRequested {
        /// The run.
        run: RunId,
        /// Which of its tasks.
        scope: RetryScope,
    },
    /// A finished run is past its retention.
    RunExpired {
        /// The run.
        run: RunId,
    },
    /// A task's condition and texts were evaluated.
    Evaluated {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskIx,
        /// What came of it.
        outcome: Result<Option<Arc<Work>>, Failure>,
    },
    /// A worker opened a stream and said who it is and what it holds.
    WorkerAttached(Box<Attachment>),
    /// A worker's stream ended.
    WorkerDetached {
        /// The stream.
        session: SessionId,
    },
    /// A sign of life.
    Heartbeat {
        /// The stream on which it came.
        session: SessionId,
    },
    /// A worker reports on an attempt.
    Reported {
        /// The stream on which it came.
        session: SessionId,
        /// What it says.
        report: Box<WorkerReport>,
    },
    /// A worker will finish what it holds and go.
    DrainStarted {
        /// The stream on which it said so.
        session: SessionId,
    },
    /// A worker accepts another share of its capacity.
    AdmissionChanged {
        /// The stream on which it said so.
        session: SessionId,
        /// What it accepts from now on.
        admission: Admission,
    },
    /// Somebody wants a worker to get no new leases, or to get them again.
    CordonRequested {
        /// The worker.
        worker: WorkerId,
        /// Whether it is to be cordoned.
        is_cordoned: bool,
    },
    /// Somebody wants a worker to finish what it holds and stop.
    DrainRequested {
        /// The worker.
        worker: WorkerId,
    },
    /// The time that [`crate::Core::next_deadline`] named has come, or may have.
    DeadlineReached,
}

/// Which tasks of a finished run are tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryScope {
    /// All that failed, were cancelled, or were skipped because of those.
    Failed,
    /// These and everything behind them.
    From(Vec<TaskIx>),
    /// These alone.
    Only(Vec<TaskIx>),
}

/// What a worker says of itself when it opens a stream.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The stream.
    pub session: SessionId,
    /// Who it is.
    pub worker: WorkerId,
    /// Which start of it.
    pub boot: BootId,
    /// All it has.
    pub capacity: Resources,
    /// Most leases that it holds at one time.
    pub leases_max: u32,
    /// What it says of itself.
    pub labels: Labels,
    /// What it can carry out.
    pub executors: Vec<ActionKind>,
    /// How much of its capacity it accepts.
    pub admission: Admission,
    /// The attempts that it holds.
    pub held: Vec<Held>,
    /// Results that were never acknowledged.
    pub unacknowledged: Vec<WorkerReport>,
}

/// An attempt that a worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The attempt.
    pub attempt: AttemptId,
    /// The token of its lease.
    pub token: Token,
    /// Whether it has started.
    pub is_started: bool,
}

/// What a worker says of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerReport {
    /// The attempt.
    pub attempt: AttemptId,
    /// The token of its lease.
    pub token: Token,
    /// What happened.
    pub kind: ReportKind,
}

/// What happened to an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// It runs.
    Started,
    /// It ended, and nothing of it is left.
    Finished {
        /// What it gave, or why it failed.
        outcome: Result<Outputs, Failure>,
        /// What it used.
        usage: Usage,
    },
    /// It never started, and the worker gives it back.
    Returned,
}
