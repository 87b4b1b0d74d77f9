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

/// Workers that a better task waits for, with what it asks for.
#[derive(Debug, Default)]
pub(super) struct Reservations(BTreeMap<WorkerIx, Arc<Resources>>);

impl Reservations {
    /// Whether a task of `class` may be placed on `worker`, which has `room`.
    pub(super) fn allow(&self, worker: WorkerIx, class: &Class, room: &Resources) -> bool {
        let Some(waiting) = self.0.get(&worker) else { return true };
        class.resources.iter().all(|(resource, amount)| {
            room.get(&resource).saturating_sub(amount) >= waiting.get(&resource)
        })
    }

    pub(super) fn has(&self, worker: WorkerIx) -> bool {
        self.0.contains_key(&worker)
    }
}

impl Core {
    /// Reserves the worker that is nearest to having room for `class`, if anything else is ready
    /// that could take the room away.
    pub(super) fn reserve_for(&self, class: ClassIx, pass: &mut Pass) {
        if self.next_lane(&pass.full).is_none() {
            return;
        }
        let class = self.state.classes.get(class);
        let nearest = self
            .state
            .pool
            .groups
            .iter()
            .filter(|((shape, _), _)| class.suits(shape))
            .filter_map(|((_, room), workers)| {
                let free = workers.iter().copied().find(|w| !pass.reservations.has(*w))?;
                Some((lack(&class.resources, room), free))
            })
            .min();
        if let Some((_, worker)) = nearest {
            pass.reservations.0.insert(worker, Arc::clone(&class.resources));
        }
    }
}

/// How much of `want` is not there, in millionths of it, over all dimensions.
fn lack(want: &Resources, room: &Resources) -> u64 {
    let mut missing = want.clone();
    missing.subtract(room);
    missing.dominant_share(want)
}
