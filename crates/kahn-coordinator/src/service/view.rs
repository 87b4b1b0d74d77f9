//! Views of runs, tasks, events and workers: plain values, independent of the core's types.

mod event;
mod run;
mod task;
mod worker;

pub(crate) use event::{EventView, UsageView};
pub(crate) use run::{RunView, WaitingView};
pub(crate) use task::TaskView;
pub(crate) use worker::WorkerView;

pub(super) use event::events;
pub(super) use task::Times;

/// Converts a count, saturating at the maximum.
fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
