//! Events of a worker and the reports that it sends.

use std::sync::Arc;
use std::time::Duration;

use kahn_model::{Admission, AttemptId, Failure, OnDisconnect, Outputs, Resources, Token, Usage};

use crate::pressure::Sample;

/// A lease from the coordinator. `P` is opaque data for the executor.
#[derive(Clone, Debug)]
pub struct Lease<P> {
    /// The attempt.
    pub attempt: AttemptId,
    /// The token that every report must include.
    pub token: Token,
    /// The resources that the attempt uses while it runs.
    pub resources: Arc<Resources>,
    /// What to do with the attempt if the coordinator cannot be reached.
    pub on_disconnect: OnDisconnect,
    /// The data for the executor.
    pub payload: P,
}

/// Why an attempt is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The attempt was cancelled.
    Cancelled,
    /// The attempt exceeded its timeout.
    TimedOut,
    /// The attempt no longer belongs to this worker; its outcome is ignored.
    Superseded,
    /// The coordinator has been unreachable for so long that it may lease the attempt to another
    /// worker.
    CutOff,
    /// The worker is shutting down.
    Leaving,
}

/// The outcome of an attempt.
pub type Outcome = Result<Outputs, Failure>;

/// An input of the worker's state machine.
#[derive(Clone, Debug)]
pub enum Event<P> {
    /// A stream to the coordinator was opened. Its first message must be an inventory.
    Connected,
    /// The stream ended.
    Disconnected,
    /// The coordinator confirmed the inventory.
    Welcomed {
        /// How long leases remain valid after a heartbeat.
        lease_ttl: Duration,
    },
    /// The coordinator acknowledged a heartbeat.
    HeartbeatAcknowledged {
        /// The number of the heartbeat.
        number: u64,
    },
    /// A lease arrived.
    Leased(Lease<P>),
    /// The coordinator requested that an attempt is stopped.
    StopRequested {
        /// The token of its lease.
        token: Token,
        /// The reason.
        reason: StopReason,
    },
    /// The coordinator requested the return of a lease, if the attempt has not started.
    RecallRequested {
        /// The token of its lease.
        token: Token,
    },
    /// The coordinator acknowledged a final report.
    Acknowledged {
        /// The token in the report.
        token: Token,
    },
    /// A drain was requested: finish the held leases, then exit.
    DrainRequested,
    /// An executor reported that an attempt is running.
    AttemptStarted {
        /// The token of its lease.
        token: Token,
    },
    /// An executor reported that an attempt has ended and was cleaned up.
    AttemptFinished {
        /// The token of its lease.
        token: Token,
        /// The outcome.
        outcome: Outcome,
        /// The resource usage.
        usage: Usage,
        /// Whether some of its output has not reached the coordinator yet.
        is_output_late: bool,
    },
    /// The pressure on the worker was measured.
    Measured(Sample),
    /// The time of [`crate::WorkerCore::next_deadline`] may have come. Being early is harmless.
    DeadlineReached,
}

/// A report about one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
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
    /// It is running.
    Started,
    /// It ended.
    Finished {
        /// The outcome.
        outcome: Outcome,
        /// The resource usage.
        usage: Usage,
        /// Whether some of its output had not reached the coordinator when it ended.
        is_output_late: bool,
    },
    /// It never started and is returned to the coordinator.
    Returned,
}

/// An attempt that the worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldAttempt {
    /// The attempt.
    pub attempt: AttemptId,
    /// The token of its lease.
    pub token: Token,
    /// Whether it has started.
    pub is_started: bool,
}

/// The state of a worker, sent when a stream opens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The attempts whose leases it holds.
    pub held: Vec<HeldAttempt>,
    /// The unacknowledged final reports.
    pub unacknowledged: Vec<Report>,
    /// Whether it accepts no new leases.
    pub is_draining: bool,
    /// How much of its capacity it accepts.
    pub admission: Admission,
}
