//! Event handlers, one file per family of events. Each handler validates first, then emits changes.

mod archive;
mod attempt;
mod control;
mod deadline;
mod submit;
mod takeover;
mod worker;

use crate::command::{Command, StopReason};
use crate::core::Core;
use crate::state::LeaseIx;

impl Core {
    /// Converts the pending effects into commands.
    pub(crate) fn carry_out_effects(&mut self) {
        let effects = std::mem::take(&mut self.state.effects);
        for (run, task, token) in effects.stop {
            if let Some(lease) = self.state.find_lease(run, task, token) {
                self.stop(lease, StopReason::Cancelled);
            }
        }
        for (run, task) in effects.evaluate {
            self.command(Command::Evaluate { run, task });
        }
        let mut touched = effects.touched;
        touched.sort_unstable();
        touched.dedup();
        for run in touched {
            self.command(Command::Notify { run });
        }
    }

    /// Asks a worker to stop an attempt, at most once.
    pub(crate) fn stop(&mut self, lease_ix: LeaseIx, reason: StopReason) {
        let lease = &mut self.state.leases[lease_ix.0];
        lease.is_stopping = true;
        let (attempt, token) = (lease.attempt(), lease.token);
        if let Some(session) = self.state.workers[lease.worker.index()].session {
            self.command(Command::Stop { session, attempt, token, reason });
        }
    }
}
