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
use crate::state::{Class, ClassIx, WorkerIx};

/// Maximum number of workers per shape, emptiest first, considered for a reservation.
const NEAREST_MAX: usize = 32;

/// Workers reserved for a better class, with the resources it requests.
#[derive(Debug, Default)]
pub(super) struct Reservations(BTreeMap<WorkerIx, (ClassIx, Arc<Resources>)>);

impl Reservations {
    /// Returns whether a task of `class` may be placed on `worker`, which has this `room`.
    pub(super) fn allow(&self, worker: WorkerIx, class: &Class, room: &Resources) -> bool {
        let waiting = self.0.get(&worker);
        waiting.is_none_or(|(_, waiting)| {
            let mut left = room.clone();
            left.subtract(waiting);
            class.resources.fits(&left)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the worker is reserved.
    pub(super) fn has(&self, worker: WorkerIx) -> bool {
        self.0.contains_key(&worker)
    }

    /// Returns whether the worker is reserved for another class.
    pub(super) fn keep_from(&self, worker: WorkerIx, class: ClassIx) -> bool {
        self.0.get(&worker).is_some_and(|(waiting, _)| *waiting != class)
    }
}

impl Core {
    /// Reserves the worker that lacks the least for `class`.
    pub(super) fn reserve_for(&self, class_ix: ClassIx, pass: &mut Pass) {
        let class = self.state.classes.get(class_ix);
        let nearest = self
            .state
            .pool
            .groups()
            .filter(|group| class.suits(&group.shape))
            .flat_map(|group| group.by_fullness.iter().take(NEAREST_MAX))
            .map(|(_, worker)| *worker)
            .filter(|worker| !pass.reservations.has(*worker))
            .map(|ix| (lack(&class.resources, &self.state.workers[ix.index()].room()), ix))
            .min();
        if let Some((_, worker)) = nearest {
            pass.reservations.0.insert(worker, (class_ix, Arc::clone(&class.resources)));
        }
    }
}

/// Returns the largest missing part of any resource in `want`, in millionths of the wanted amount.
fn lack(want: &Resources, room: &Resources) -> u64 {
    let mut missing = want.clone();
    missing.subtract(room);
    missing.dominant_share(want)
}
