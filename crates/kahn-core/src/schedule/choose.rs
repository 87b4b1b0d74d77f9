//! Chooses the worker for a task of a class.

use std::cmp::Reverse;

use super::pool::Group;
use super::reserve::Reservations;
use crate::core::Core;
use crate::settings::Spreading;
use crate::state::{Class, ClassIx, WorkerIx};

/// Fullness of a worker if one of its resources is used up.
const FULL: u64 = 1_000_000;

/// Maximum number of fullest workers that packing considers before it takes one with enough room.
const PACKED_MAX: usize = 32;

impl Core {
    /// Returns the best worker with room for a task of `class`: first by the number of preferences
    /// it meets, then by fullness.
    pub(super) fn choose(&self, class: ClassIx, reserved: &Reservations) -> Option<WorkerIx> {
        let class = self.state.classes.get(class);
        let groups = self.state.pool.groups().filter(|group| class.suits(&group.shape));
        if class.resources.is_none() {
            // Tasks without resource requests go to the worker with the fewest leases.
            let first = |group: &Group| group.by_load.first().copied();
            return groups.filter_map(first).min().map(|(_, worker)| worker);
        }
        groups
            .filter(|group| group.may_fit(&class.resources))
            .filter_map(|group| {
                let (fullness, worker) = self.choose_in(group, class, reserved)?;
                let preference = Reverse(class.preference(&group.shape.labels));
                Some(((preference, fullness), worker))
            })
            .min()
            .map(|(_, worker)| worker)
    }

    fn choose_in(
        &self,
        group: &Group,
        class: &Class,
        reserved: &Reservations,
    ) -> Option<(u64, WorkerIx)> {
        let has_room = |entry: &&(u64, WorkerIx)| self.has_room(entry.1, class, reserved);
        match self.state.settings.spreading {
            Spreading::Spread => group.by_fullness.iter().find(has_room).copied(),
            Spreading::Pack => {
                let share = class.resources.dominant_share(&group.shape.capacity);
                let surely = (FULL.saturating_sub(share), WorkerIx(u32::MAX));
                let unsure = group.by_fullness.iter().rev().take(PACKED_MAX);
                let found = unsure
                    .clone()
                    .find(has_room)
                    .or_else(|| group.by_fullness.range(..=surely).rev().find(has_room));
                found.map(|(fullness, worker)| (u64::MAX - fullness, *worker))
            }
        }
    }

    /// Returns whether a task of `class` may be placed on a worker now: there is room that is not
    /// reserved for a better task.
    pub(super) fn has_room(&self, ix: WorkerIx, class: &Class, reserved: &Reservations) -> bool {
        let room = self.state.open_room(ix);
        class.resources.fits(&room) && reserved.allow(ix, class, &room)
    }
}
