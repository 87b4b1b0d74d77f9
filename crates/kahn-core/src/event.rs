//! Events: inputs to the core as observed from outside.

use std::sync::Arc;

use kahn_model::{
    ActionKind, Admission, AttemptId, BootId, Failure, Labels, Outputs, Resources, RunId, TaskIx,
    Timestamp, Token, Usage, Work, WorkerId,
};

use crate::change::Submission;
use crate::snapshot::RunSnapshot;
use crate::summary::ArchiveRef;

/// A session: one stream of one worker. The driver numbers sessions; a later one replaces an
/// earlier one.
///
/// The number must be assigned, and the worker must know that, before the worker reports what it
/// holds. Only then do the numbers follow the order in which the worker opened its streams,
/// regardless of how late their messages arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// An input to the core. Events can be late, duplicated or wrong.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client submits a run.
    Submitted(Arc<Submission>),
    /// A client cancels a run.
    CancelRequested {
        /// The run.
        run: RunId,
        /// The reason given by the client.
        reason: Box<str>,
    },
    /// A client pauses a run: nothing new in it starts.
    PauseRequested {
        /// The run.
        run: RunId,
    },
    /// A client resumes a paused run.
    ResumeRequested {
        /// The run.
        run: RunId,
    },
    /// A client retries tasks of a finished run.
    RetryRequested {
        /// The run.
        run: RunId,
        /// The tasks to retry.
        scope: RetryScope,
    },
    /// A finished run has exceeded its retention.
    RunExpired {
        /// The run.
        run: RunId,
    },
    /// Everything about a finished run was stored outside of the log.
    RunStored {
        /// The run.
        run: RunId,
        /// The number of records in its history when it was stored.
        n_records: usize,
        /// When it had ended. Another run with the same id has another time.
        finished_at: Option<Timestamp>,
        /// The document with the run.
        archive: ArchiveRef,
    },
    /// An archived run was read, because a client wants to change it.
    RunFetched(Arc<RunSnapshot>),
    /// The condition and the templates of a task were evaluated.
    Evaluated {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskIx,
        /// The rendered work, `None` if it contains no expressions, or the failure; a false
        /// condition is a failure with the cause `Condition`.
        outcome: Result<Option<Arc<Work>>, Failure>,
    },
    /// A worker opened a stream and reported its identity and the attempts it holds.
    WorkerAttached(Box<Attachment>),
    /// A worker's stream ended.
    WorkerDetached {
        /// The stream.
        session: SessionId,
    },
    /// A worker sent a heartbeat.
    Heartbeat {
        /// The session that received it.
        session: SessionId,
    },
    /// A worker reports on an attempt.
    Reported {
        /// The session that received it.
        session: SessionId,
        /// The report.
        report: Box<WorkerReport>,
    },
    /// A worker started to drain: it finishes the leases it holds and leaves.
    DrainStarted {
        /// The session that received it.
        session: SessionId,
    },
    /// A worker changed the share of its capacity that it accepts.
    AdmissionChanged {
        /// The session that received it.
        session: SessionId,
        /// The new admission.
        admission: Admission,
    },
    /// A client cordons or uncordons a worker.
    CordonRequested {
        /// The worker.
        worker: WorkerId,
        /// Whether to cordon it.
        is_cordoned: bool,
    },
    /// A client drains a worker: it finishes the leases it holds and then stops.
    DrainRequested {
        /// The worker.
        worker: WorkerId,
    },
    /// The time returned by [`crate::Core::next_deadline`] has been reached. Early events are
    /// harmless.
    DeadlineReached,
}

/// Which tasks of a finished run are retried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryScope {
    /// All tasks that failed, were cancelled, or were skipped because of those.
    Failed,
    /// The given tasks and all their direct and indirect dependents.
    From(Vec<TaskIx>),
    /// Only the given tasks.
    Only(Vec<TaskIx>),
}

/// The data that a worker sends when it opens a stream.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The session.
    pub session: SessionId,
    /// The worker's id.
    pub worker: WorkerId,
    /// The worker's boot id.
    pub boot: BootId,
    /// The worker's total capacity.
    pub capacity: Resources,
    /// Maximum number of leases that it holds at a time.
    pub leases_max: u32,
    /// The worker's labels.
    pub labels: Labels,
    /// The kinds of action that it can execute.
    pub executors: Vec<ActionKind>,
    /// The share of its capacity that it accepts.
    pub admission: Admission,
    /// The attempts that it holds.
    pub held: Vec<Held>,
    /// Reports that were not acknowledged.
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

/// A worker's report on one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerReport {
    /// The attempt.
    pub attempt: AttemptId,
    /// The token of its lease.
    pub token: Token,
    /// What happened.
    pub kind: ReportKind,
}

/// The contents of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// The attempt is running.
    Started,
    /// The attempt ended, and none of its processes are left.
    Finished {
        /// The outputs, or why it failed.
        outcome: Result<Outputs, Failure>,
        /// The resources it used.
        usage: Usage,
    },
    /// The attempt never started, and the worker returns it.
    Returned,
}
