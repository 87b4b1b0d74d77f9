//! Recalls leases that wait for room if another worker is idle.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kahn_model::Resources;

use super::Pass;
use crate::command::Command;
use crate::core::Core;
use crate::state::{Class, ClassIx, LeaseIx, WorkerIx};

/// Minimum wait that justifies a recall, which costs two messages and a new lease.
const WORTH_RECALLING: Duration = Duration::from_millis(10);

/// Maximum number of workers considered for a class before giving up.
const TAKERS_MAX: usize = 64;

/// Intermediate results of one round of recalls.
#[derive(Debug, Default)]
struct Round {
    /// Room reserved for recalled leases.
    promised: BTreeMap<WorkerIx, Resources>,
    /// Classes for which no other worker has room.
    stuck: BTreeSet<ClassIx>,
}

impl Core {
    /// Recalls leases for which another worker has room now. Runs after all ready tasks were
    /// considered.
    pub(super) fn recall_for_idle_workers(&mut self, pass: &Pass) {
        let mut round = Round::default();
        let classes: Vec<ClassIx> = self.state.pool.with_ahead.keys().copied().collect();
        for class in classes {
            if self.taker(None, class, pass, &round).is_none() {
                round.stuck.insert(class);
                continue;
            }
            let holders = self.state.pool.with_ahead.get(&class);
            let holders: Vec<WorkerIx> = holders.into_iter().flatten().copied().collect();
            for holder in holders {
                if round.stuck.contains(&class) {
                    break;
                }
                if self.is_worth_recalling(holder) {
                    self.recall_from(holder, pass, &mut round);
                }
            }
        }
    }

    /// Returns whether waiting leases are expected to wait for long at the worker's pace, or have
    /// already done so, since running attempts can take longer than earlier ones.
    fn is_worth_recalling(&self, holder: WorkerIx) -> bool {
        let worker = &self.state.workers[holder.index()];
        let n_placed = u32::try_from(worker.n_leases() - worker.n_ahead()).unwrap_or(u32::MAX);
        let n_ahead = u32::try_from(worker.n_ahead()).unwrap_or(u32::MAX);
        let expected = worker.pace.map(|pace| pace.saturating_mul(n_ahead) / n_placed.max(1));
        let oldest = worker.ahead.first().map(|(_, lease)| self.state.leases[lease.0].granted_at);
        let waited = oldest.map_or(Duration::ZERO, |since| self.state.now.since(since));
        expected.is_none_or(|wait| wait > WORTH_RECALLING) || waited > WORTH_RECALLING
    }

    /// Recalls the leases of a worker, newest first, until no other worker has room for one.
    fn recall_from(&mut self, holder: WorkerIx, pass: &Pass, round: &mut Round) {
        let ahead = &self.state.workers[holder.index()].ahead;
        let newest: Vec<LeaseIx> = ahead.iter().rev().map(|(_, lease)| *lease).collect();
        for lease in newest {
            let class = self.state.leases[lease.0].class;
            if round.stuck.contains(&class) {
                return;
            }
            let Some(taker) = self.taker(Some(holder), class, pass, round) else {
                round.stuck.insert(class);
                return;
            };
            let resources = &self.state.leases[lease.0].resources;
            round.promised.entry(taker).or_default().add(resources);
            self.recall(holder, lease);
        }
    }

    /// Returns another worker with room that is neither promised nor reserved.
    fn taker(
        &self,
        holder: Option<WorkerIx>,
        class: ClassIx,
        pass: &Pass,
        round: &Round,
    ) -> Option<WorkerIx> {
        let class: &Class = self.state.classes.get(class);
        let fits = |worker: &WorkerIx| {
            let mut left = self.state.workers[worker.index()].room();
            if let Some(gone) = round.promised.get(worker) {
                left.subtract(gone);
            }
            Some(*worker) != holder
                && !pass.reservations.has(*worker)
                && class.resources.fits(&left)
                && self.has_room(*worker, class, &pass.reservations)
        };
        self.state
            .pool
            .groups()
            .filter(|group| group.may_fit(&class.resources) && class.suits(&group.shape))
            .find_map(|group| {
                group.by_fullness.iter().take(TAKERS_MAX).map(|(_, worker)| *worker).find(fits)
            })
    }

    /// Asks a worker to return a lease, at most once.
    fn recall(&mut self, holder: WorkerIx, lease_ix: LeaseIx) {
        let lease = &mut self.state.leases[lease_ix.0];
        if lease.is_recalled || lease.is_stopping {
            return;
        }
        lease.is_recalled = true;
        let (attempt, token) = (lease.attempt(), lease.token);
        if let Some(session) = self.state.workers[holder.index()].session {
            self.command(Command::Recall { session, attempt, token });
        }
    }
}
