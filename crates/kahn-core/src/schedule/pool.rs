//! Workers that may be given work, grouped by what they are and what they have left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kahn_model::Resources;

use crate::state::{Shape, State, WorkerIx};

/// Workers of the same shape with the same room.
pub(crate) type GroupKey = (Arc<Shape>, Resources);

/// Workers that may be given work.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    pub groups: BTreeMap<GroupKey, BTreeSet<WorkerIx>>,
    /// The same workers by how many leases they hold.
    pub by_load: BTreeSet<(usize, WorkerIx)>,
    /// Workers that hold leases ahead of their room.
    pub with_ahead: BTreeSet<WorkerIx>,
    /// Where each worker stands in the above.
    places: BTreeMap<WorkerIx, (GroupKey, usize)>,
    dirty: BTreeSet<WorkerIx>,
    /// Whether the last pass left something undone.
    pub has_more: bool,
    /// Classes for which no worker was suitable, and that are being watched.
    pub watched: BTreeSet<crate::state::ClassIx>,
}

impl Pool {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Takes note that a worker is no longer where it stands here.
    pub(crate) fn mark(&mut self, worker: WorkerIx) {
        self.dirty.insert(worker);
    }

    fn remove(&mut self, worker: WorkerIx) {
        let Some((key, load)) = self.places.remove(&worker) else { return };
        self.by_load.remove(&(load, worker));
        if let Some(group) = self.groups.get_mut(&key) {
            group.remove(&worker);
            if group.is_empty() {
                self.groups.remove(&key);
            }
        }
    }

    fn insert(&mut self, worker: WorkerIx, key: GroupKey, load: usize) {
        self.by_load.insert((load, worker));
        self.groups.entry(key.clone()).or_default().insert(worker);
        self.places.insert(worker, (key, load));
    }
}

impl State {
    /// Brings the pool up to date with all that changed since.
    pub(crate) fn refresh_pool(&mut self) {
        while let Some(worker) = self.pool.dirty.pop_first() {
            self.refresh_worker(worker);
        }
    }

    pub(crate) fn refresh_worker(&mut self, ix: WorkerIx) {
        let worker = &self.workers[ix.index()];
        self.pool.dirty.remove(&ix);
        self.pool.remove(ix);
        if worker.takes_leases() {
            let key = (Arc::clone(&worker.shape), worker.room());
            self.pool.insert(ix, key, worker.n_leases());
        }
        if worker.ahead.is_empty() {
            self.pool.with_ahead.remove(&ix);
        } else {
            self.pool.with_ahead.insert(ix);
        }
    }
}
