//! Safe backfill: a task may overtake one that waits for room if it does not make it wait longer.
//!
//! A class that finds no room gets one worker reserved for the rest of the pass. A lesser task may
//! still be placed there if, of everything it takes, enough is left for the one that waits; then
//! what that one waits for is something else.

use std::collections::BTreeMap;
use std::sync::Arc;

use kahn_model::Resources;

use super::Pass;
use crate::core::Core;
use crate::state::{Class, ClassIx, WorkerIx};

/// How many workers of each shape, the emptiest first, are looked at as the nearest.
const NEAREST_MAX: usize = 32;

/// Workers that a better class waits for, with what it asks for.
#[derive(Debug, Default)]
pub(super) struct Reservations(BTreeMap<WorkerIx, (ClassIx, Arc<Resources>)>);

impl Reservations {
    /// Whether a task of `class` may be placed on `worker`, which has `room`.
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

    /// Whether the worker is reserved.
    pub(super) fn has(&self, worker: WorkerIx) -> bool {
        self.0.contains_key(&worker)
    }

    /// Whether the worker is reserved for another class.
    pub(super) fn keep_from(&self, worker: WorkerIx, class: ClassIx) -> bool {
        self.0.get(&worker).is_some_and(|(waiting, _)| *waiting != class)
    }
}

impl Core {
    /// Reserves the worker that is nearest to having room for `class`.
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

/// How much of `want` is not there, in millionths of it, over all dimensions.
fn lack(want: &Resources, room: &Resources) -> u64 {
    let mut missing = want.clone();
    missing.subtract(room);
    missing.dominant_share(want)
}
