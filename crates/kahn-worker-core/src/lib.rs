//! The worker's state machine: what it holds, what it may start, and what it must still tell.
//!
//! Pure, like the coordinator's core: events come in with the time of the worker's own monotonic
//! clock, commands come out. [`WorkerCore`] is the place to start reading.

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
