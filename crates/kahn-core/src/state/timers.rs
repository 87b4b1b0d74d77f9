//! What is to be looked at when a time comes. A timer that has lost its meaning does nothing.

use std::collections::BTreeSet;

use kahn_model::{RunId, TaskIx, Timestamp, Token};

use super::classes::ClassIx;
use super::gates::GateKey;
use super::worker::WorkerIx;

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Whether the worker was heard from.
    Silence(WorkerIx),
    /// Whether the task has backed off for long enough.
    Backoff(RunId, TaskIx),
    /// Whether the task is still in the ready set it entered with this age.
    Queue(RunId, TaskIx, u32),
    /// Whether the attempt under this lease has started.
    Start(RunId, TaskIx, Token),
    /// Whether the attempt under this lease still runs.
    Run(RunId, TaskIx, Token),
    /// Whether the run still runs.
    Deadline(RunId),
    /// Whether the dependent still waits for the dependency.
    Dependency(RunId, TaskIx, TaskIx),
    /// Whether there is still no worker that could run the class.
    Infeasible(ClassIx),
    /// Whether an open breaker may let an attempt through.
    CoolDown(GateKey),
}

/// Timers in the order in which they are due.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Timestamp, Timer)>);

impl Timers {
    pub(crate) fn set(&mut self, at: Timestamp, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(crate) fn remove(&mut self, at: Timestamp, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes out the first timer that is due.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }
}
