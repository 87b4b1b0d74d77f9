//! Runs, tasks, events and workers as they are shown: plain values, without the core's own types
//! of state.

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

/// A number of things, as far as it fits.
fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
