//! The service layer: every operation for clients, with plain requests and results.
//!
//! All validation of requests is done here: names, limits, states. A wire protocol (gRPC today)
//! only converts between its messages and these types.

mod archived;
mod control;
mod error;
mod export;
mod list;
mod logs;
mod output;
mod run_ref;
mod submit;
mod view;
mod watch;
mod workers;

use kahn_core::{ArchiveRef, Core, Event, Refusal, Run};
use kahn_model::{RunId, RunRef};

pub(crate) use control::{RetryRequest, RetryWhich};
pub(crate) use error::{ErrorKind, ServiceError};
pub(crate) use export::{Exported, Exports};
pub(crate) use list::{RunFilter, TaskFilter};
pub(crate) use logs::{LogPart, LogRequest};
pub(crate) use output::OutputReceiver;
pub(crate) use submit::Submit;
pub(crate) use view::{EventView, RunView, TaskView, UsageView, WaitingView, WorkerView};
pub(crate) use watch::{WatchRequest, WatchUpdate};

use crate::config::Limits;
use crate::histories::Histories;
use crate::inbox::Handle;
use crate::logs::Logs;
use crate::watchers::Watchers;

/// All operations on runs, workers and the state as a whole. Clones share their state.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    handle: Handle,
    watchers: Watchers,
    logs: Logs,
    histories: Histories,
    limits: Limits,
    exports: Exports,
}

impl Service {
    pub(crate) fn new(
        handle: Handle,
        watchers: Watchers,
        logs: Logs,
        histories: Histories,
        limits: Limits,
        exports: Exports,
    ) -> Self {
        Self { handle, watchers, logs, histories, limits, exports }
    }

    /// Returns the id of the run that a reference denotes.
    async fn resolve(&self, run: RunRef) -> Result<RunId, ServiceError> {
        match run {
            RunRef::Id(id) => Ok(id),
            other => self.handle.query(move |core| run_ref::resolve(core, other)).await?,
        }
    }

    /// Asks a question about a run. If the run is archived, it is answered by a core that has this
    /// run alone.
    async fn ask<T: Send + 'static>(
        &self,
        run: RunRef,
        question: impl FnOnce(&Core, &Run) -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        self.ask_either(run, question).await.map(|(answer, _)| answer)
    }

    /// Does the same, and returns whether the run is archived.
    async fn ask_either<T: Send + 'static>(
        &self,
        run: RunRef,
        question: impl FnOnce(&Core, &Run) -> T + Send + 'static,
    ) -> Result<(T, bool), ServiceError> {
        let asked = self.handle.query(move |core| -> Result<_, ServiceError> {
            let id = run_ref::resolve(core, run)?;
            if let Some(run) = core.state().run(id) {
                return Ok(Asked::Answered(question(core, run)));
            }
            let archived = core.state().archived_run(id).ok_or(Refusal::UnknownRun(id))?;
            Ok(Asked::Archived(id, archived.archive, question))
        });
        let (id, archive, question) = match asked.await?? {
            Asked::Answered(answer) => return Ok((answer, false)),
            Asked::Archived(id, archive, question) => (id, archive, question),
        };
        let core = self.histories.read(id, archive).await?;
        let run = core.state().run(id).ok_or(Refusal::UnknownRun(id))?;
        Ok((question(&core, run), true))
    }

    /// Sends `event` for a run, and returns the run once the change is durable.
    async fn change(&self, run: RunId, event: Event) -> Result<RunView, ServiceError> {
        self.handle.request(event).await?;
        self.ask(RunRef::Id(run), |_, run| RunView::of(run)).await
    }
}

/// A question about a run: answered, or still to be asked of the archived run.
enum Asked<T, Q> {
    Answered(T),
    Archived(RunId, ArchiveRef, Q),
}
