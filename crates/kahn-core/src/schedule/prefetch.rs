//! Leases ahead of room, so that a worker has its next task at hand when one ends.

use std::time::Duration;

use super::Pass;
use crate::core::Core;
use crate::settings::Settings;
use crate::state::{Class, ClassIx, Worker, WorkerIx};

/// Maximum number of workers considered for a class before giving up.
const CANDIDATES_MAX: usize = 64;

impl Core {
    /// Grants leases ahead of room, so that workers stay busy for
    /// [`crate::Settings::prefetch_span`].
    pub(super) fn fill_ahead(&mut self, pass: &mut Pass) {
        let mut queue = self.namespace_queue();
        while pass.n_granted < self.state.settings.grants_per_pass {
            let Some((class, lane)) = self.next_lane(&mut queue) else { return };
            if self.park_if_gated(lane) {
                continue;
            }
            match self.choose_ahead(class, pass) {
                Some(worker) => {
                    self.grant(lane, worker);
                    self.requeue_first(&mut queue);
                    pass.n_granted += 1;
                }
                None => queue.exclude(class),
            }
        }
    }

    /// Returns the worker that will finish its leases ahead of room first.
    fn choose_ahead(&self, class_ix: ClassIx, pass: &Pass) -> Option<WorkerIx> {
        let class = self.state.classes.get(class_ix);
        if class.resources.is_none() {
            return None;
        }
        self.state
            .pool
            .groups()
            .filter(|group| !group.by_ahead.is_empty() && class.suits(&group.shape))
            .filter_map(|group| {
                let is_kept = |worker| pass.reservations.keep_from(worker, class_ix);
                let mut candidates = group.by_ahead.iter().take(CANDIDATES_MAX);
                candidates.find(|(_, ix)| !is_kept(*ix) && self.queues_alike(*ix, class)).copied()
            })
            .min()
            .map(|(_, worker)| worker)
    }

    /// Returns whether all waiting leases of the worker have the same requirements as `class`.
    /// Otherwise, smaller tasks could overtake larger ones on the worker again and again.
    fn queues_alike(&self, worker: WorkerIx, class: &Class) -> bool {
        let head = self.state.workers[worker.index()].ahead.first();
        head.is_none_or(|(_, head)| self.state.leases[head.0].resources == class.resources)
    }
}

impl Settings {
    /// Returns the maximum number of leases ahead of room: as many as the worker finishes within
    /// the span at its recent pace. Zero if the pace is unknown, since a task behind a long attempt
    /// waits longer than in the ready set. Zero as well for a worker under pressure, since it may
    /// accept even less later.
    pub(super) fn ahead_max(&self, worker: &Worker) -> usize {
        if !worker.admission.share.is_all() {
            return 0;
        }
        let n_placed = worker.n_leases() - worker.n_ahead();
        let max = usize::try_from(self.prefetch_max).unwrap_or(usize::MAX);
        let Some(pace) = worker.pace else { return 0 };
        let pace = pace.max(Duration::from_micros(1)).as_micros();
        let rounds = self.prefetch_span.as_micros() * 16 / pace;
        let wanted = u128::from(u64::try_from(n_placed).unwrap_or(u64::MAX)) * rounds / 16;
        usize::try_from(wanted).unwrap_or(usize::MAX).min(max)
    }
}
