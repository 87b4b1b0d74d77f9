//! Safe backfill: a task may overtake one that waits for room only if it does not prolong its wait.
//!
//! If no worker has room for a class, one worker is reserved for it for the rest of the pass. A
//! lower-ranked task may still be placed there if enough remains of each resource that it takes;
//! the waiting class then lacks a different resource.

use std::collections::BTreeMap;
use std::sync::Arc;

use kahn_model::Resources;

use super::Pass;
use crate::core::Core;
use crate::state::{Class, ClassIx, LaneIx, WorkerIx};

/// Maximum number of workers per shape, emptiest first, considered for a reservation.
const NEAREST_MAX: usize = 32;

/// Workers reserved for tasks that wait for room.
#[derive(Debug, Default)]
pub(super) struct Reservations(BTreeMap<WorkerIx, Reservation>);

#[derive(Debug)]
struct Reservation {
    /// The class of the waiting task.
    class: ClassIx,
    /// The lane whose head is the waiting task.
    lane: LaneIx,
    /// What the task requests.
    resources: Arc<Resources>,
}

impl Reservations {
    /// Returns whether a task of `class` may be placed on `worker`, which has this `room`.
    pub(super) fn allow(&self, worker: WorkerIx, class: &Class, room: &Resources) -> bool {
        let reservation = self.0.get(&worker);
        reservation.is_none_or(|reservation| {
            let mut left = room.clone();
            left.subtract(&reservation.resources);
            class.resources.fits(&left)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps the reservations for the classes for which `is_kept` is true.
    pub(super) fn retain(&mut self, is_kept: impl Fn(ClassIx) -> bool) {
        self.0.retain(|_, reservation| is_kept(reservation.class));
    }

    /// Returns whether the worker is reserved.
    pub(super) fn has(&self, worker: WorkerIx) -> bool {
        self.0.contains_key(&worker)
    }

    /// Returns whether the worker is reserved for another class.
    pub(super) fn keep_from(&self, worker: WorkerIx, class: ClassIx) -> bool {
        self.0.get(&worker).is_some_and(|reservation| reservation.class != class)
    }
}

impl Core {
    /// Returns whether a worker is reserved for a task that a gate holds back by now, such as that
    /// of a run that has reached its `max_parallel` in this pass.
    pub(super) fn has_void_reservation(&self, pass: &Pass) -> bool {
        pass.reservations.0.values().any(|reservation| self.gate_of(reservation.lane).is_some())
    }

    /// Reserves the worker that lacks the least for `class`, whose best task is at the head of
    /// `lane`, unless one is reserved for the class already.
    pub(super) fn reserve_for(&self, class_ix: ClassIx, lane: LaneIx, pass: &mut Pass) {
        if pass.reservations.0.values().any(|reservation| reservation.class == class_ix) {
            return;
        }
        let class = self.state.classes.get(class_ix);
        let nearest = self
            .state
            .pool
            .groups()
            .filter(|group| class.suits(&group.shape))
            .flat_map(|group| group.by_fullness.iter().take(NEAREST_MAX))
            .map(|(_, worker)| *worker)
            .filter(|worker| !pass.reservations.has(*worker))
            .map(|ix| (missing_share(&class.resources, &self.state.workers[ix.index()].room()), ix))
            .min();
        if let Some((_, worker)) = nearest {
            let resources = Arc::clone(&class.resources);
            let reservation = Reservation { class: class_ix, lane, resources };
            pass.reservations.0.insert(worker, reservation);
        }
    }
}

/// Returns the largest missing part of any resource in `want`, in millionths of the wanted amount.
fn missing_share(want: &Resources, room: &Resources) -> u64 {
    let mut missing = want.clone();
    missing.subtract(room);
    missing.dominant_share(want)
}

#[cfg(test)]
mod tests {
    use crate::testing::{World, dag};

    #[test]
    fn no_worker_is_kept_for_a_task_that_a_gate_holds_back() {
        let mut world = World::new();
        let first = dag().run_priority(1).task("big").resources("cpu=2");
        let first = world.submit(&first.build());
        let second = dag().run_priority(1).max_parallel(1);
        let second = second.task("waits").resources("cpu=2").task("goes").resources("memory=2Gi");
        let second = world.submit(&second.build());
        let third = world.submit(&dag().task("small").resources("cpu=1").build());
        // All are placed in the pass after this. The worker is reserved for `waits` until `goes`
        // has closed the gate of its run.
        world.attach("w1", "cpu=3 memory=4Gi");
        for (run, task) in [(first, "big"), (second, "goes"), (third, "small")] {
            assert!(world.held("w1", run, task).is_some(), "{task}");
        }
        assert!(world.held("w1", second, "waits").is_none());
    }
}
