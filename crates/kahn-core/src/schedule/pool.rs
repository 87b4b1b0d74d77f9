//! Workers that can take leases, grouped by shape and ordered by remaining room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kahn_model::{Resource, Resources};

use crate::state::{ClassIx, Shape, Slab, State, WorkerIx};

/// The resources for which a group keeps the largest room.
const LIMITING: [Resource; 5] =
    [Resource::Cpu, Resource::Memory, Resource::Gpu, Resource::Disk, Resource::Network];

/// Workers of one shape that may hold one more lease.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub shape: Arc<Shape>,
    /// Workers by fullness: the dominant share of the resources that are not open, in millionths.
    pub by_fullness: BTreeSet<(u64, WorkerIx)>,
    /// Workers by number of leases.
    pub by_load: BTreeSet<(usize, WorkerIx)>,
    /// Workers that may get leases ahead of room, by the number of those they have.
    pub by_ahead: BTreeSet<(usize, WorkerIx)>,
    /// Number of workers per amount of room, for each of [`LIMITING`].
    rooms: [BTreeMap<u64, u32>; LIMITING.len()],
}

impl Group {
    /// Returns whether one of the workers may have room, considering each resource separately. This
    /// is a fast check before all workers are considered.
    pub(crate) fn may_fit(&self, wanted: &Resources) -> bool {
        LIMITING.iter().zip(&self.rooms).all(|(resource, rooms)| {
            let amount = wanted.get(resource);
            amount == 0 || rooms.last_key_value().is_some_and(|(most, _)| *most >= amount)
        })
    }

    fn remove(&mut self, worker: WorkerIx, place: &Place) {
        self.by_fullness.remove(&(place.fullness, worker));
        self.by_load.remove(&(place.load, worker));
        if let Some(ahead) = place.ahead {
            self.by_ahead.remove(&(ahead, worker));
        }
        for (rooms, room) in self.rooms.iter_mut().zip(place.rooms) {
            if let Some(n) = rooms.get_mut(&room) {
                *n -= 1;
                if *n == 0 {
                    rooms.remove(&room);
                }
            }
        }
    }

    fn insert(&mut self, worker: WorkerIx, place: &Place) {
        self.by_fullness.insert((place.fullness, worker));
        self.by_load.insert((place.load, worker));
        if let Some(ahead) = place.ahead {
            self.by_ahead.insert((ahead, worker));
        }
        for (rooms, room) in self.rooms.iter_mut().zip(place.rooms) {
            *rooms.entry(room).or_default() += 1;
        }
    }
}

/// The keys under which a worker is listed in its group.
#[derive(Debug)]
struct Place {
    group: u32,
    fullness: u64,
    load: usize,
    ahead: Option<usize>,
    rooms: [u64; LIMITING.len()],
}

/// Workers that can take leases.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    groups: Slab<Group>,
    by_shape: BTreeMap<Arc<Shape>, u32>,
    /// Workers with leases ahead of room, by the class of the newest of these leases.
    pub with_ahead: BTreeMap<ClassIx, BTreeSet<WorkerIx>>,
    /// The class under which each of them is listed in `with_ahead`.
    newest: BTreeMap<WorkerIx, ClassIx>,
    /// The place of each worker in its group.
    places: BTreeMap<WorkerIx, Place>,
    dirty: BTreeSet<WorkerIx>,
    /// Whether the last pass left placements for the next one.
    pub has_more: bool,
    /// Classes without a suitable worker whose timer is running.
    pub watched: BTreeSet<ClassIx>,
    /// Cached total capacity of all present workers.
    pub total: Option<Resources>,
}

impl Pool {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns the groups that are not empty.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().map(|(_, group)| group).filter(|group| !group.by_load.is_empty())
    }

    /// Marks the entry of a worker as outdated.
    pub(crate) fn mark(&mut self, worker: WorkerIx) {
        self.dirty.insert(worker);
    }

    /// Removes a worker, and returns the group that it was in.
    fn remove(&mut self, worker: WorkerIx) -> Option<u32> {
        let place = self.places.remove(&worker)?;
        self.groups[place.group].remove(worker, &place);
        Some(place.group)
    }

    fn insert(&mut self, worker: WorkerIx, place: Place) {
        self.groups[place.group].insert(worker, &place);
        self.places.insert(worker, place);
    }

    fn group_of(&mut self, shape: &Arc<Shape>) -> u32 {
        if let Some(at) = self.by_shape.get(shape) {
            return *at;
        }
        let group = Group { shape: Arc::clone(shape), ..Group::default() };
        let at = self.groups.insert(group);
        self.by_shape.insert(Arc::clone(shape), at);
        at
    }

    /// Removes a group without workers.
    fn drop_if_empty(&mut self, group: u32) {
        if self.groups[group].by_load.is_empty() {
            let gone = self.groups.remove(group);
            self.by_shape.remove(&gone.shape);
        }
    }

    /// Lists a worker under the class of its newest lease ahead of room, if there is one.
    fn list_ahead(&mut self, worker: WorkerIx, newest: Option<ClassIx>) {
        let before = self.newest.get(&worker).copied();
        if before == newest {
            return;
        }
        if let Some(class) = before {
            self.newest.remove(&worker);
            if let Some(holders) = self.with_ahead.get_mut(&class) {
                holders.remove(&worker);
                if holders.is_empty() {
                    self.with_ahead.remove(&class);
                }
            }
        }
        if let Some(class) = newest {
            self.newest.insert(worker, class);
            self.with_ahead.entry(class).or_default().insert(worker);
        }
    }
}

impl State {
    /// Returns the room of a worker without the part that its first waiting lease needs. Otherwise,
    /// smaller tasks could take that part again and again.
    pub(crate) fn open_room(&self, ix: WorkerIx) -> Resources {
        let worker = &self.workers[ix.index()];
        let mut room = worker.room();
        if let Some((_, head)) = worker.ahead.first() {
            room.subtract(&self.leases[head.0].resources);
        }
        room
    }

    /// Updates the pool with all marked workers.
    pub(crate) fn refresh_pool(&mut self) {
        while let Some(worker) = self.pool.dirty.pop_first() {
            self.refresh_worker(worker);
        }
    }

    pub(crate) fn refresh_worker(&mut self, ix: WorkerIx) {
        let worker = &self.workers[ix.index()];
        self.pool.dirty.remove(&ix);
        let before = self.pool.remove(ix);
        if worker.takes_leases() && worker.has_lease_room() {
            let room = self.open_room(ix);
            let taken = worker.taken(&room);
            let may_have_ahead = worker.n_ahead() < self.settings.ahead_max(worker);
            let place = Place {
                group: self.pool.group_of(&worker.shape),
                fullness: taken.dominant_share(&worker.capacity),
                load: worker.n_leases(),
                ahead: may_have_ahead.then(|| worker.n_ahead()),
                rooms: LIMITING.each_ref().map(|resource| room.get(resource)),
            };
            self.pool.insert(ix, place);
        }
        if let Some(group) = before {
            self.pool.drop_if_empty(group);
        }
        let newest = worker.ahead.last().map(|(_, lease)| self.leases[lease.0].class);
        self.pool.list_ahead(ix, newest);
    }
}
