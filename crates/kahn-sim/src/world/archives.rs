//! Archiving: leaders store finished runs outside of the log, and read archived runs again when a
//! client wants to change them.

use kahn_core::{Event, Run};
use kahn_model::RunId;

use super::clients::Goal;
use super::{SimEvent, World};
use crate::mutation::Mutation;
use crate::oracle::Oracle;
use crate::workload::{chance, span};

impl World {
    pub(super) fn plan_archiving(&mut self, coordinator: usize) {
        if self.has_archives {
            let at = self.now + span(&mut self.rng, 100, 3000);
            let leadership = self.coordinators[coordinator].leadership;
            self.queue.plan(at, SimEvent::ArchivingDue { coordinator, leadership });
        }
    }

    /// Stores a finished run. The leader hears of it some time later, if nothing fails.
    pub(super) fn on_archiving_due(&mut self, ix: usize, leadership: u64) {
        if self.coordinators[ix].leadership != leadership || !self.coordinators[ix].is_leading() {
            return;
        }
        if let Some(event) = self.store_one(ix) {
            let at = self.now + span(&mut self.rng, 1, 2000);
            let stored = SimEvent::Stored { coordinator: ix, leadership, event: Box::new(event) };
            self.queue.plan(at, stored);
        }
        self.plan_archiving(ix);
    }

    fn store_one(&mut self, ix: usize) -> Option<Event> {
        let state = self.coordinators[ix].core()?.state();
        let finished = state.runs().filter(|run| run.state.is_terminal());
        let finished: Vec<RunId> = finished.map(Run::id).collect();
        let run = *finished.get(self.rng.usize(..finished.len().max(1)))?;
        let snapshot = state.snapshot_run(state.run(run)?);
        let (n_records, finished_at) = (snapshot.history.len(), snapshot.finished_at);
        let archive = match self.options.mutation {
            Some(Mutation::NoStoredArchive) => Oracle::name_of(&snapshot),
            _ => self.oracle.stored(snapshot),
        };
        // The confirmation is lost.
        if chance(&mut self.rng, 10) {
            return None;
        }
        Some(Event::RunStored { run, n_records, finished_at, archive })
    }

    /// Returns what a leader reads before it retries an archived run.
    pub(super) fn fetched_for(&mut self, ix: usize, client: usize, goal: Goal) -> Option<Event> {
        let (Goal::RetryFailed(at) | Goal::RetryFrom(at)) = goal else { return None };
        let run = self.clients[client].run_id(at);
        let archive = self.coordinators[ix].core()?.state().archived_run(run)?.archive;
        let Some(snapshot) = self.oracle.archive_of(run, archive) else {
            self.oracle.object("I19", format!("run {run} is archived and cannot be read"));
            return None;
        };
        // Another coordinator may have restored and archived the run meanwhile.
        let older = self.oracle.any_archive_of(run).filter(|_| chance(&mut self.rng, 20));
        Some(Event::RunFetched(older.unwrap_or(snapshot)))
    }
}
