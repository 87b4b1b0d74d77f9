//! Timers for checks at a later time. A timer that is obsolete when it fires has no effect.

use std::collections::BTreeSet;

use kahn_model::{RunId, TaskIx, Timestamp, Token};

use super::classes::ClassIx;
use super::gates::GateKey;
use super::worker::WorkerIx;

/// The check to make when a timer fires.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Checks whether messages from the worker arrived.
    Silence(WorkerIx),
    /// Checks whether the task's backoff is over.
    Backoff(RunId, TaskIx),
    /// Checks whether the task is still in the ready set with this age.
    Queue(RunId, TaskIx, u32),
    /// Checks whether the attempt under this lease has started.
    Start(RunId, TaskIx, Token),
    /// Checks whether the attempt under this lease still runs.
    Run(RunId, TaskIx, Token),
    /// Checks whether the run has exceeded its deadline.
    Deadline(RunId),
    /// Checks whether the dependent still waits for the dependency.
    Dependency(RunId, TaskIx, TaskIx),
    /// Checks whether any worker could run the class.
    Infeasible(ClassIx),
    /// Checks whether an open breaker may admit a trial attempt.
    CoolDown(GateKey),
}

/// Timers, ordered by due time.
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

    /// Removes and returns the first timer that is due.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }
}
