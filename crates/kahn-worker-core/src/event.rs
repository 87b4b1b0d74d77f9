//! What may happen to a worker, and what it says.

use std::sync::Arc;
use std::time::Duration;

use kahn_model::{Admission, AttemptId, Failure, OnDisconnect, Outputs, Resources, Token, Usage};

use crate::pressure::Sample;

/// A lease as it arrives. `P` is what the executor needs and nobody else looks at.
#[derive(Clone, Debug)]
pub struct Lease<P> {
    /// The attempt.
    pub attempt: AttemptId,
    /// The token that every report must bear.
    pub token: Token,
    /// What the attempt takes while it runs.
    pub resources: Arc<Resources>,
    /// What to do with it when the coordinator cannot be reached.
    pub on_disconnect: OnDisconnect,
    /// What to do, for the executor.
    pub payload: P,
}

/// Why an attempt is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It was called off.
    Cancelled,
    /// It took too long.
    TimedOut,
    /// It is no longer this worker's to carry out; nobody waits for its outcome.
    Superseded,
    /// The coordinator has not been reached for so long that it may give the attempt to another.
    CutOff,
    /// The worker goes away.
    Leaving,
}

/// How an attempt ended.
pub type Outcome = Result<Outputs, Failure>;

/// Something that happened to the worker.
#[derive(Clone, Debug)]
pub enum Event<P> {
    /// A stream to the coordinator is open; it expects an inventory first.
    Connected,
    /// The stream has ended.
    Disconnected,
    /// The coordinator has taken the inventory; leases live for `lease_ttl` after a heartbeat.
    Welcomed {
        /// For how long the coordinator waits for a sign of life.
        lease_ttl: Duration,
    },
    /// The coordinator has taken note of heartbeat number `number`.
    HeartbeatAcknowledged {
        /// The number that the heartbeat bore.
        number: u64,
    },
    /// A lease arrived.
    Leased(Lease<P>),
    /// The coordinator wants an attempt stopped.
    StopRequested {
        /// The token of its lease.
        token: Token,
        /// Why.
        reason: StopReason,
    },
    /// The coordinator wants an attempt back that has not started.
    RecallRequested {
        /// The token of its lease.
        token: Token,
    },
    /// The coordinator has made note of a final report.
    Acknowledged {
        /// The token in the report.
        token: Token,
    },
    /// Somebody wants the worker to finish what it holds and go.
    DrainRequested,
    /// An executor says that an attempt runs.
    AttemptStarted {
        /// The token of its lease.
        token: Token,
    },
    /// An executor says that an attempt has ended and that nothing of it is left.
    AttemptFinished {
        /// The token of its lease.
        token: Token,
        /// How.
        outcome: Outcome,
        /// What it used.
        usage: Usage,
        /// Whether output of it is still to reach the coordinator.
        is_output_late: bool,
    },
    /// The pressure on the worker was measured.
    Measured(Sample),
    /// The time that [`crate::WorkerCore::next_deadline`] named has come, or may have.
    DeadlineReached,
}

/// What a worker says of one attempt.
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
    /// It runs.
    Started,
    /// It ended.
    Finished {
        /// How.
        outcome: Outcome,
        /// What it used.
        usage: Usage,
        /// Whether output of it was still to reach the coordinator when it ended.
        is_output_late: bool,
    },
    /// It never started, and is given back.
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

/// All that a worker holds and still has to tell, as said when a stream opens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The attempts it holds.
    pub held: Vec<HeldAttempt>,
    /// The final reports that were never acknowledged.
    pub unacknowledged: Vec<Report>,
    /// Whether it takes nothing new.
    pub is_draining: bool,
    /// How much of its capacity it accepts.
    pub admission: Admission,
}
