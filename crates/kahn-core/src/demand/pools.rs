//! How many workers each pool needs.

use std::collections::BTreeMap;

use kahn_model::Name;

use crate::core::Core;
use crate::state::{ClassIx, KnownPool, WORKER, Worker, WorkerStatus};

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
    /// Adds a worker. Nothing else finds room on one that is cordoned.
    fn add(&mut self, worker: &Worker) {
        let n_leases = u64::try_from(worker.n_leases()).unwrap_or(u64::MAX);
        self.n_workers += 1;
        self.n_busy += u32::from(n_leases > 0 || worker.is_cordoned);
        self.n_leases = self.n_leases.saturating_add(n_leases);
        if worker.is_cordoned {
            self.hold(WORKER);
        }
    }

    fn hold(&mut self, parts: u64) {
        self.held = self.held.saturating_add(parts);
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
        let pools = &self.state.known_pools;
        if pools.is_empty() {
            return Some(Vec::new());
        }
        let is_away = |worker: &Worker| worker.executors.is_empty() && worker.n_leases() > 0;
        if self.state.workers().iter().any(is_away) {
            return None;
        }
        let mut loads = self.held_by_pools();
        for (class, n) in self.demand_by_class() {
            self.assign(class, n, &mut loads);
        }
        Some(pools.iter().zip(&loads).map(|(pool, load)| demand(pool, load)).collect())
    }

    /// Returns the load of each pool by the leases that its workers hold.
    fn held_by_pools(&self) -> Vec<Load> {
        let pools = &self.state.known_pools;
        let mut loads: Vec<Load> = pools.iter().map(|_| Load::default()).collect();
        let mut held: BTreeMap<(usize, ClassIx), u64> = BTreeMap::new();
        let stays = |worker: &&Worker| worker.status != WorkerStatus::Lost && !worker.is_draining;
        for worker in self.state.workers().iter().filter(stays) {
            let Some(pool) = pools.iter().position(|pool| pool.has(worker)) else { continue };
            loads[pool].add(worker);
            // Of a cordoned worker nothing is left for others anyway.
            for lease in worker.leases.iter().filter(|_| !worker.is_cordoned) {
                *held.entry((pool, self.state.leases[lease.0].class)).or_default() += 1;
            }
        }
        for ((pool, class), n) in held {
            let share = pools[pool].share(self.state.classes.get(class));
            loads[pool].hold(n.saturating_mul(share));
        }
        loads
    }

    /// Counts waiting tasks of a class for the pools that can run them. The first is the one that
    /// has the fewest resources of no use to them. What its maximum does not admit is left to the next
    /// one, and to the first if no pool admits it.
    fn assign(&self, class: ClassIx, n: u64, loads: &mut [Load]) {
        let (class, pools) = (self.state.classes.get(class), &self.state.known_pools);
        let mut suitable: Vec<usize> =
            (0..pools.len()).filter(|ix| pools[*ix].suits(class)).collect();
        suitable.sort_by_key(|ix| pools[*ix].n_unused(class));
        let mut n_left = n;
        for ix in &suitable {
            let share = pools[*ix].share(class);
            let n_admitted = loads[*ix].n_admitted(pools[*ix].settings.workers_max, share);
            let n_taken = n_left.min(n_admitted);
            loads[*ix].wait(n_taken, share);
            n_left -= n_taken;
        }
        if let Some(first) = suitable.first() {
            loads[*first].wait(n_left, pools[*first].share(class));
        }
    }
}

fn demand(pool: &KnownPool, load: &Load) -> PoolDemand {
    PoolDemand {
        name: pool.settings.name.clone(),
        n_workers: load.n_workers,
        n_busy: load.n_busy,
        n_leases: load.n_leases,
        n_waiting: load.n_waiting,
        n_wanted: load.n_wanted(),
        n_max: pool.settings.workers_max,
    }
}

#[cfg(test)]
mod tests;
