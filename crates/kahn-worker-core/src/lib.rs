//! The worker's state machine: held leases, running attempts and unacknowledged reports.
//!
//! Performs no I/O, like the coordinator's core: it receives events with the time of the worker's
//! own monotonic clock and returns commands. Start reading at [`WorkerCore`].

mod command;
mod core;
mod event;
mod outbound;
mod pressure;
mod queue;

pub use command::Command;
pub use core::{Settings, WorkerCore};
pub use event::{Event, HeldAttempt, Inventory, Lease, Outcome, Report, ReportKind, StopReason};
pub use pressure::{PressureLimits, Sample};
