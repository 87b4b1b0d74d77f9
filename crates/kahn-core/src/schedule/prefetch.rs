//! Leases ahead of room: a worker has its next task at hand when one ends.

use std::time::Duration;

use super::Pass;
use crate::core::Core;
use crate::state::{ClassIx, Worker, WorkerIx};

impl Core {
    /// Gives workers that have no room as much work ahead as will keep them busy for
    /// [`crate::Settings::prefetch_span`].
    pub(super) fn fill_ahead(&mut self, pass: &mut Pass) {
        let mut full = std::collections::BTreeSet::new();
        while pass.n_granted < self.state.settings.grants_per_pass {
            let Some((class, lane)) = self.next_lane(&full) else { return };
            if let Some(gate) = self.gate_of(lane) {
                self.state.ready.park(lane);
                self.state.gates.park(gate, lane);
                continue;
            }
            match self.choose_ahead(class, pass) {
                Some(worker) => {
                    self.grant(lane, worker);
                    pass.n_granted += 1;
                }
                None => {
                    full.insert(class);
                }
            }
        }
    }

    /// The worker that will soonest be done with what it has been given ahead.
    fn choose_ahead(&self, class: ClassIx, pass: &Pass) -> Option<WorkerIx> {
        let class = self.state.classes.get(class);
        if class.resources.is_none() {
            return None;
        }
        self.state
            .pool
            .by_load
            .iter()
            .map(|(_, worker)| *worker)
            .filter(|ix| !pass.reservations.has(*ix) && self.has_lease_room(*ix))
            .map(|ix| (ix, &self.state.workers[ix.index()]))
            .filter(|(_, worker)| class.suits(&worker.shape))
            .filter(|(_, worker)| worker.n_ahead() < self.ahead_max(worker))
            .min_by_key(|(ix, worker)| (worker.n_ahead(), *ix))
            .map(|(ix, _)| ix)
    }

    /// How many leases a worker may hold ahead: as many as it will get through in the span, by
    /// the pace of its recent attempts; one for each that runs while the pace is not known.
    fn ahead_max(&self, worker: &Worker) -> usize {
        let settings = &self.state.settings;
        let n_placed = worker.n_leases() - worker.n_ahead();
        let max = usize::try_from(settings.prefetch_max).unwrap_or(usize::MAX);
        let Some(pace) = worker.pace else { return n_placed.min(max) };
        let pace = pace.max(Duration::from_micros(1)).as_micros();
        let rounds = settings.prefetch_span.as_micros() * 16 / pace;
        let wanted = u128::from(u64::try_from(n_placed).unwrap_or(u64::MAX)) * rounds / 16;
        usize::try_from(wanted).unwrap_or(usize::MAX).min(max)
    }
}
