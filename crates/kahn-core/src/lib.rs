//! The coordinator's state machine and scheduler.
//!
//! This crate is pure: it takes events, each with the time at which it was observed, and returns
//! changes and commands. It reads no clock, draws no random numbers, performs no IO and never
//! blocks. The same code runs in production, in the simulator, and when the log is replayed after a
//! crash.
//!
//! [`Core`] is the entry point.

mod core;
mod event;

mod change;
mod command;
mod history;
mod refusal;

mod apply;
mod handle;
mod schedule;
mod state;

mod audit;
mod demand;
mod explain;
pub mod log;
mod outbox;
mod settings;
mod snapshot;
mod summary;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod timing;

pub use change::{Change, Submission, Then, Verdict};
pub use command::{Command, Grant, StopReason};
pub use core::{Core, Step};
pub use demand::{Demand, PoolDemand};
pub use event::{Attachment, Event, Held, ReportKind, RetryScope, SessionId, WorkerReport};
pub use explain::{Blocker, Explanation, Waiting};
pub use history::{Messages, Record, RecordKind, Spent, attempt_interval};
pub use outbox::{Batch, Outbox};
pub use refusal::Refusal;
pub use schedule::shortage;
pub use settings::{PoolSettings, Settings, Spreading};
pub use snapshot::{CellSnapshot, LeaseSnapshot, RunSnapshot, Snapshot};
pub use state::{
    Breaker, Cell, Counts, Lease, LeaseIx, NamespaceIx, Run, RunIx, Shape, State, Worker, WorkerIx,
    WorkerStatus,
};
pub use summary::{ArchiveRef, ArchivedRun, RunSummary};
pub use timing::Timing;
