//! Which worker gets a task of a class.

use std::cmp::Reverse;

use super::reserve::Reservations;
use crate::core::Core;
use crate::settings::Spreading;
use crate::state::{Class, ClassIx, Shape, WorkerIx};

impl Core {
    /// The best worker with room for a task of `class`, if there is one.
    pub(super) fn choose(&self, class: ClassIx, reserved: &Reservations) -> Option<WorkerIx> {
        let class = self.state.classes.get(class);
        if class.resources.is_none() {
            return self.least_loaded(class);
        }
        let spreading = self.state.settings.spreading;
        self.state
            .pool
            .groups
            .iter()
            .filter(|((shape, room), _)| class.resources.fits(room) && class.suits(shape))
            .filter_map(|((shape, room), workers)| {
                let free = workers.iter().copied().find(|worker| {
                    self.has_lease_room(*worker) && reserved.allow(*worker, class, room)
                })?;
                Some((score(class, shape, room, spreading), free))
            })
            .min()
            .map(|(_, worker)| worker)
    }

    /// What takes no resources goes where there are the fewest leases.
    fn least_loaded(&self, class: &Class) -> Option<WorkerIx> {
        self.state.pool.by_load.iter().map(|(_, worker)| *worker).find(|worker| {
            let shape = &self.state.workers[worker.index()].shape;
            self.has_lease_room(*worker) && class.suits(shape)
        })
    }

    pub(super) fn has_lease_room(&self, worker: WorkerIx) -> bool {
        let worker = &self.state.workers[worker.index()];
        usize::try_from(worker.leases_max).is_ok_and(|max| worker.n_leases() < max)
    }
}

/// The smaller, the better: first the preferences that are met, then how full the worker is.
fn score(
    class: &Class,
    shape: &Shape,
    room: &kahn_model::Resources,
    spreading: Spreading,
) -> (Reverse<usize>, u64) {
    let mut used = shape.capacity.clone();
    used.subtract(room);
    let share = used.dominant_share(&shape.capacity);
    let fullness = match spreading {
        Spreading::Spread => share,
        Spreading::Pack => u64::MAX - share,
    };
    (Reverse(class.preference(&shape.labels)), fullness)
}
