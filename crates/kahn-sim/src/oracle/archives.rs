//! Archived runs: they are complete outside of the log, and come back as they were.

use std::fmt::Write as _;
use std::sync::Arc;

use kahn_core::{ArchiveRef, ArchivedRun, Change, RunSnapshot};
use kahn_model::RunId;

use super::Oracle;
use crate::digest::Digest;

impl Oracle {
    /// Stores a run outside of the log.
    pub(crate) fn stored(&mut self, snapshot: RunSnapshot) -> ArchiveRef {
        let archive = Self::name_of(&snapshot);
        self.archives.insert((snapshot.submission.run, archive.digest), Arc::new(snapshot));
        archive
    }

    /// Returns the name under which a run is stored, which follows from its content.
    pub(crate) fn name_of(snapshot: &RunSnapshot) -> ArchiveRef {
        let text = format!("{snapshot:?}");
        let mut digest = [0; 16];
        for (salt, half) in (1..).zip(digest.chunks_exact_mut(8)) {
            let mut of_half = Digest::new(salt);
            of_half.write_str(&text).expect("invariant: a digest takes everything");
            half.copy_from_slice(&of_half.value().to_le_bytes());
        }
        let bytes = u64::try_from(text.len()).expect("invariant: u64 holds usize");
        ArchiveRef { bytes, digest }
    }

    /// Returns what is stored of a run.
    pub(crate) fn archive_of(&self, run: RunId, archive: ArchiveRef) -> Option<Arc<RunSnapshot>> {
        self.archives.get(&(run, archive.digest)).cloned()
    }

    /// Returns one of the states of a run that were ever stored.
    pub(crate) fn any_archive_of(&self, run: RunId) -> Option<Arc<RunSnapshot>> {
        let mut of_run = self.archives.range((run, [0; 16])..=(run, [u8::MAX; 16]));
        of_run.next().map(|(_, snapshot)| Arc::clone(snapshot))
    }

    /// Checks a change before it is replayed.
    pub(super) fn check_archive(&mut self, change: &Change) {
        let state = self.shadow.state();
        let archived = change.run().and_then(|run| state.archived_run(run)).cloned();
        match (change, archived) {
            (Change::RunArchived { run, archive }, None) => {
                let stored = self.archive_of(*run, *archive);
                let known = state.run(*run).map(|run| (run.state, state.snapshot_run(run)));
                let is_same = known.is_some_and(|(state, snapshot)| {
                    state.is_terminal() && stored.as_deref() == Some(&snapshot)
                });
                if !is_same {
                    self.object("I19", format!("{change}, and something else is stored"));
                }
            }
            (Change::RunRestored(restored), Some(archived)) => {
                let stored = self.archive_of(archived.run, archived.archive);
                if stored.as_ref() != Some(restored) {
                    self.object("I19", format!("{change}, and not as it was archived"));
                }
            }
            (Change::RunRemoved { .. }, _) => {}
            (Change::RunRestored(_), None) | (_, Some(_)) => {
                self.object("I19", format!("{change}, which does not fit whether it is archived"));
            }
            (_, None) => {}
        }
    }

    /// Checks the state after a change was replayed.
    pub(super) fn check_archive_after(&mut self, change: &Change) {
        let state = self.shadow.state();
        let is_as_expected = match change {
            Change::RunArchived { run, archive } => {
                let stored = self.archive_of(*run, *archive);
                let expected = stored.map(|stored| ArchivedRun::new(&stored.summary(), *archive));
                self.n_archived += 1;
                state.run(*run).is_none() && state.archived_run(*run) == expected.as_ref()
            }
            Change::RunRestored(restored) => {
                let run = restored.submission.run;
                let found = state.run(run).map(|run| state.snapshot_run(run));
                self.n_restored += 1;
                state.archived_run(run).is_none() && found.as_ref() == Some(&**restored)
            }
            _ => true,
        };
        if !is_as_expected {
            self.object("I19", format!("{change}, and the state is another one"));
        }
    }
}
