//! Work given ahead to one worker is called back when another has nothing to do.

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_model::Resources;

use crate::command::Command;
use crate::core::Core;
use crate::state::{LeaseIx, WorkerIx};

/// A wait that is not worth a recall, which takes two messages and a new lease.
const WORTH_RECALLING: Duration = Duration::from_millis(10);

impl Core {
    /// Calls leases back for which another worker has room now.
    pub(super) fn recall_for_idle_workers(&mut self) {
        if self.state.pool.with_ahead.is_empty() {
            return;
        }
        let mut promised: BTreeMap<WorkerIx, Resources> = BTreeMap::new();
        let holders: Vec<WorkerIx> = self.state.pool.with_ahead.iter().copied().collect();
        for holder in holders {
            if !self.is_worth_recalling(holder) {
                continue;
            }
            let newest: Vec<LeaseIx> =
                self.state.workers[holder.index()].ahead.iter().rev().map(|(_, ix)| *ix).collect();
            for lease in newest {
                if !self.recall_if_wanted(holder, lease, &mut promised) {
                    break;
                }
            }
        }
    }

    fn is_worth_recalling(&self, holder: WorkerIx) -> bool {
        let worker = &self.state.workers[holder.index()];
        let n_placed = u32::try_from(worker.n_leases() - worker.n_ahead()).unwrap_or(u32::MAX);
        let n_ahead = u32::try_from(worker.n_ahead()).unwrap_or(u32::MAX);
        let wait = worker.pace.map(|pace| pace.saturating_mul(n_ahead) / n_placed.max(1));
        wait.is_none_or(|wait| wait > WORTH_RECALLING)
    }

    /// Recalls a lease unless that was done before, if some other worker has room for it. Says
    /// whether to look at the next.
    fn recall_if_wanted(
        &mut self,
        holder: WorkerIx,
        lease_ix: LeaseIx,
        promised: &mut BTreeMap<WorkerIx, Resources>,
    ) -> bool {
        let lease = &self.state.leases[lease_ix.0];
        let class = self.state.classes.get(lease.class);
        let taker = self.state.pool.groups.iter().find_map(|((shape, room), workers)| {
            let fits = |worker: &WorkerIx| {
                let mut left = room.clone();
                if let Some(gone) = promised.get(worker) {
                    left.subtract(gone);
                }
                *worker != holder && class.resources.fits(&left)
            };
            class.suits(shape).then(|| workers.iter().copied().find(fits)).flatten()
        });
        let Some(taker) = taker else { return false };
        promised.entry(taker).or_default().add(&lease.resources);
        if lease.is_recalled || lease.is_stopping {
            return true;
        }
        let (attempt, token) = (lease.attempt(), lease.token);
        self.state.leases[lease_ix.0].is_recalled = true;
        if let Some(session) = self.state.workers[holder.index()].session {
            self.command(Command::Recall { session, attempt, token });
        }
        true
    }
}
