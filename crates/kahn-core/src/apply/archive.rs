//! Applies archiving and restoring of finished runs.

use kahn_model::RunId;

use crate::snapshot::RunSnapshot;
use crate::state::State;
use crate::summary::{ArchiveRef, ArchivedRun};

impl State {
    /// Drops everything about a run but its summary.
    pub(super) fn apply_archived(&mut self, id: RunId, archive: ArchiveRef) {
        let ix = self.ix(id);
        let archived = ArchivedRun::new(&self.runs[ix.0].summary(), archive);
        self.drop_run(id);
        self.insert_archived(archived);
        self.effects.touch(id);
    }

    /// Brings an archived run back as it was.
    pub(super) fn apply_restored(&mut self, snapshot: &RunSnapshot) {
        let id = snapshot.submission.run;
        self.remove_archived(id).expect("invariant: only an archived run is restored");
        self.restore_run(snapshot.clone());
        self.effects.touch(id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kahn_model::{Outputs, Partition, RunState};

    use crate::event::{Event, RetryScope};
    use crate::refusal::Refusal;
    use crate::snapshot::RunSnapshot;
    use crate::summary::ArchiveRef;
    use crate::testing::{World, dag, exit_code};

    const ARCHIVE: ArchiveRef = ArchiveRef { bytes: 70, digest: [7; 16] };

    fn stored(snapshot: &RunSnapshot) -> Event {
        let run = snapshot.submission.run;
        let (n_records, finished_at) = (snapshot.history.len(), snapshot.finished_at);
        Event::RunStored { run, n_records, finished_at, archive: ARCHIVE }
    }

    /// Returns a world with a run of which one task failed, and a snapshot of the run.
    fn failed_run() -> (World, RunSnapshot) {
        let mut world = World::new();
        world.attach("w", "cpu=2");
        let run = world.submit(&dag().task("a").task("b").build());
        let (a, b) = (world.held("w", run, "a").unwrap(), world.held("w", run, "b").unwrap());
        world.finish("w", a, Ok(Outputs::default()));
        world.finish("w", b, Err(exit_code(3)));
        let snapshot = world.core.state().snapshot_run(world.run(run));
        assert_eq!(snapshot.state, RunState::Failed);
        (world, snapshot)
    }

    #[test]
    fn only_the_summary_of_an_archived_run_is_left_and_it_is_the_same() {
        let (mut world, snapshot) = failed_run();
        let id = snapshot.submission.run;
        world.accept(stored(&snapshot));
        let state = world.core.state();
        assert_eq!((state.n_runs(), state.n_archived(), state.archived_bytes()), (0, 1, 70));
        assert!(state.run(id).is_none());
        assert_eq!(state.summary(id), Some(snapshot.summary()));
        let checkpoint = state.snapshot(Partition(0));
        assert_eq!((checkpoint.runs.len(), checkpoint.archived.len()), (0, 1));
        assert_eq!(world.core.audit(), Vec::<String>::new());
    }

    #[test]
    fn a_run_that_has_not_ended_or_has_changed_since_is_not_archived() {
        let (mut world, snapshot) = failed_run();
        let id = snapshot.submission.run;
        world.accept(Event::RetryRequested { run: id, scope: RetryScope::Failed });
        let refused = world.step(stored(&snapshot)).unwrap_err();
        assert!(matches!(refused, Refusal::WrongState { state: RunState::Active, .. }));
        world.finish_all();
        assert!(world.run(id).state.is_terminal());
        let refused = world.step(stored(&snapshot)).unwrap_err();
        assert!(refused.to_string().contains("changed since"), "{refused}");
        assert_eq!(world.core.state().n_archived(), 0);
    }

    #[test]
    fn a_restored_run_is_as_it_was_and_can_be_retried() {
        let (mut world, snapshot) = failed_run();
        let id = snapshot.submission.run;
        world.accept(stored(&snapshot));
        let retry = Event::RetryRequested { run: id, scope: RetryScope::Failed };
        assert_eq!(world.step(retry.clone()), Err(Refusal::Archived(id)));
        world.accept(Event::RunFetched(Arc::new(snapshot.clone())));
        assert_eq!(world.core.state().snapshot_run(world.run(id)), snapshot);
        assert_eq!((world.core.state().n_archived(), world.core.state().archived_bytes()), (0, 0));
        // The same again changes nothing.
        let n_changes = world.log.len();
        world.accept(Event::RunFetched(Arc::new(snapshot)));
        assert_eq!(world.log.len(), n_changes);
        world.accept(retry);
        world.finish_all();
        assert_eq!(world.run(id).state, RunState::Succeeded);
        assert_eq!(world.core.audit(), Vec::<String>::new());
    }

    #[test]
    fn a_run_that_does_not_match_its_summary_is_not_restored() {
        let (mut world, snapshot) = failed_run();
        let id = snapshot.submission.run;
        let event = |snapshot: &RunSnapshot| Event::RunFetched(Arc::new(snapshot.clone()));
        world.accept(stored(&snapshot));
        let mut other = snapshot.clone();
        other.history.pop();
        assert_eq!(world.step(event(&other)), Err(Refusal::WrongArchive(id)));
        world.accept(Event::RunExpired { run: id });
        assert_eq!(world.step(event(&snapshot)), Err(Refusal::UnknownRun(id)));
    }

    #[test]
    fn an_archived_run_is_listed_found_and_recognized_like_others() {
        let (mut world, snapshot) = failed_run();
        let id = snapshot.submission.run;
        world.accept(stored(&snapshot));
        let later = world.submit(&dag().task("a").build());
        let state = world.core.state();
        let listed: Vec<_> = state.summaries_before(None).map(|summary| summary.run).collect();
        assert_eq!(listed, [later, id]);
        let listed: Vec<_> = state.summaries_before(Some(later)).map(|s| s.run).collect();
        assert_eq!(listed, [id]);
        assert_eq!(state.ids_between(id, later), [id, later]);

        world.accept(Event::Submitted(Arc::clone(&snapshot.submission)));
        assert!(world.core.state().run(id).is_none(), "it is not submitted again");
        let mut other = (*snapshot.submission).clone();
        other.digest[0] ^= 1;
        assert_eq!(world.step(Event::Submitted(Arc::new(other))), Err(Refusal::Conflict(id)));
        let refused = world.step(Event::CancelRequested { run: id, reason: "".into() });
        assert!(matches!(refused, Err(Refusal::WrongState { state: RunState::Failed, .. })));
    }
}
