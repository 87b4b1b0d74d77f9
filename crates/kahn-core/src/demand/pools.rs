//! How many workers each pool needs.

use std::collections::BTreeMap;

use kahn_model::Name;

use super::shapes::{PoolShape, WORKER, is_member};
use crate::core::Core;
use crate::state::{ClassIx, State, Worker, WorkerStatus};

/// How many workers a pool has, and how many it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolDemand {
    /// The name of the pool.
    pub name: Name,
    /// Its workers that are present and do not leave.
    pub n_workers: u32,
    /// Those of them that hold leases, or are cordoned.
    pub n_busy: u32,
    /// The leases that they hold.
    pub n_leases: u64,
    /// The ready tasks that wait for room and that this pool is to run.
    pub n_waiting: u64,
    /// The number of workers that would have room for all of these. At least `n_busy`, so that no
    /// worker is removed while it has work.
    pub n_wanted: u64,
    /// The configured maximum.
    pub n_max: Option<u32>,
}

/// The load of a pool. Parts of workers are in millionths.
#[derive(Debug, Default)]
struct Load {
    n_workers: u32,
    n_busy: u32,
    n_leases: u64,
    held: u64,
    n_waiting: u64,
    waiting: u64,
}

impl Load {
    fn hold(&mut self, n: u64, share: u64) {
        self.n_leases = self.n_leases.saturating_add(n);
        self.held = self.held.saturating_add(n.saturating_mul(share));
    }

    fn wait(&mut self, n: u64, share: u64) {
        self.n_waiting = self.n_waiting.saturating_add(n);
        self.waiting = self.waiting.saturating_add(n.saturating_mul(share));
    }

    /// Returns how many more tasks with this share `max` workers could take.
    fn n_admitted(&self, max: Option<u32>, share: u64) -> u64 {
        let Some(max) = max else { return u64::MAX };
        let taken = self.held.saturating_add(self.waiting);
        (u64::from(max) * WORKER).saturating_sub(taken) / share
    }

    /// Returns the number of workers with room for everything.
    ///
    /// The tasks that wait have found no room on the workers that are busy, even if some is left
    /// there in pieces. Idle workers do not count: if the tasks cannot run on those, more of them would
    /// not help either.
    fn n_wanted(&self) -> u64 {
        let all = self.held.saturating_add(self.waiting).div_ceil(WORKER);
        all.max(u64::from(self.n_busy) + self.waiting.div_ceil(WORKER))
    }
}

impl Core {
    /// Returns the number of workers that each configured pool has and needs, in the order of the
    /// settings.
    ///
    /// Returns `None` as long as leases are held by workers that have not come back since this term
    /// began, for at most [`Settings::lease_ttl`](crate::Settings::lease_ttl): which pool they belong to
    /// is not known.
    #[must_use]
    pub fn pool_demand(&self) -> Option<Vec<PoolDemand>> {
        let state = &self.state;
        let is_away = |worker: &Worker| worker.executors.is_empty() && worker.n_leases() > 0;
        if state.workers().iter().any(is_away) {
            return None;
        }
        let pools = &state.settings.pools;
        let shapes: Vec<PoolShape<'_>> =
            pools.iter().map(|pool| PoolShape::of(pool, state)).collect();
        let mut loads: Vec<Load> = shapes.iter().map(|shape| held(shape, state)).collect();
        if !pools.is_empty() {
            for (class, n) in self.demand_by_class() {
                self.assign(class, n, &shapes, &mut loads);
            }
        }
        Some(shapes.iter().zip(&loads).map(|(shape, load)| demand(shape, load)).collect())
    }

    /// Returns whether a worker of a configured pool could run the class.
    pub(crate) fn is_for_a_pool(&self, class: ClassIx) -> bool {
        let class = self.state.classes.get(class);
        let mut pools = self.state.settings.pools.iter();
        pools.any(|pool| PoolShape::of(pool, &self.state).suits(class))
    }

    /// Counts waiting tasks of a class for the pools that can run them. The first is the one that
    /// has the fewest resources of no use to them. What its maximum does not admit is left to the next
    /// one, and to the first if no pool admits it.
    fn assign(&self, class: ClassIx, n: u64, shapes: &[PoolShape<'_>], loads: &mut [Load]) {
        let class = self.state.classes.get(class);
        let mut suitable: Vec<usize> =
            (0..shapes.len()).filter(|ix| shapes[*ix].suits(class)).collect();
        suitable.sort_by_key(|ix| shapes[*ix].n_unused(class));
        let mut n_left = n;
        for ix in &suitable {
            let share = shapes[*ix].share(class);
            let n_admitted = loads[*ix].n_admitted(shapes[*ix].settings.workers_max, share);
            let n_taken = n_left.min(n_admitted);
            loads[*ix].wait(n_taken, share);
            n_left -= n_taken;
        }
        if let Some(first) = suitable.first() {
            loads[*first].wait(n_left, shapes[*first].share(class));
        }
    }
}

/// Returns the load of the leases that the workers of a pool hold.
fn held(shape: &PoolShape<'_>, state: &State) -> Load {
    let mut load = Load::default();
    let stays = |worker: &&Worker| worker.status != WorkerStatus::Lost && !worker.is_draining;
    let members = state.workers().iter().filter(stays).filter(|w| is_member(w, shape.settings));
    let mut classes: BTreeMap<ClassIx, u64> = BTreeMap::new();
    for worker in members {
        load.n_workers += 1;
        load.n_busy += u32::from(worker.n_leases() > 0 || worker.is_cordoned);
        if worker.is_cordoned {
            // Nothing else finds room on it.
            load.held = load.held.saturating_add(WORKER);
            load.n_leases = load.n_leases.saturating_add(n_leases(worker));
            continue;
        }
        for lease in &worker.leases {
            *classes.entry(state.leases[lease.0].class).or_default() += 1;
        }
    }
    for (class, n) in classes {
        load.hold(n, shape.share(state.classes.get(class)));
    }
    load
}

fn n_leases(worker: &Worker) -> u64 {
    u64::try_from(worker.n_leases()).unwrap_or(u64::MAX)
}

fn demand(shape: &PoolShape<'_>, load: &Load) -> PoolDemand {
    PoolDemand {
        name: shape.settings.name.clone(),
        n_workers: load.n_workers,
        n_busy: load.n_busy,
        n_leases: load.n_leases,
        n_waiting: load.n_waiting,
        n_wanted: load.n_wanted(),
        n_max: shape.settings.workers_max,
    }
}

#[cfg(test)]
mod tests;
