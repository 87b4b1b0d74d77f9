//! Handles finished runs that were stored elsewhere, and archived ones that were read again.

use std::sync::Arc;

use kahn_model::{RunId, Timestamp};

use crate::change::Change;
use crate::core::Core;
use crate::refusal::Refusal;
use crate::snapshot::RunSnapshot;
use crate::summary::ArchiveRef;

impl Core {
    /// Archives a finished run, unless it has changed since it was stored. `stored` is the number of
    /// its records and when it had ended.
    pub(crate) fn on_run_stored(
        &mut self,
        run: RunId,
        stored: (usize, Option<Timestamp>),
        archive: ArchiveRef,
    ) -> Result<(), Refusal> {
        let known = self.run_or_refuse(run)?;
        let state = known.state;
        if !state.is_terminal() {
            let advice = "only a finished run can be archived";
            return Err(Refusal::WrongState { run, state, advice });
        }
        // A run changes only by a retry after its end, which adds records. It may have been removed,
        // and submitted again under the same id.
        if (known.history.len(), known.finished_at) != stored {
            let advice = "it has changed since it was stored to be archived";
            return Err(Refusal::WrongState { run, state, advice });
        }
        self.emit(Change::RunArchived { run, archive });
        Ok(())
    }

    /// Restores an archived run. A run that is restored already does not change.
    pub(crate) fn on_run_fetched(&mut self, snapshot: Arc<RunSnapshot>) -> Result<(), Refusal> {
        let run = snapshot.submission.run;
        if self.state.run(run).is_some() {
            return Ok(());
        }
        let archived = self.state.archived_run(run).ok_or(Refusal::UnknownRun(run))?;
        if archived.summary() != snapshot.summary() {
            return Err(Refusal::WrongArchive(run));
        }
        self.emit(Change::RunRestored(snapshot));
        Ok(())
    }
}
