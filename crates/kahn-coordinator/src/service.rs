//! The service layer: every operation for clients, with plain requests and results.
//!
//! All validation of requests is done here: names, limits, states. A wire protocol (gRPC today)
//! only converts between its messages and these types.

mod control;
mod error;
mod list;
mod logs;
mod output;
mod run_ref;
mod submit;
mod view;
mod watch;
mod workers;

use kahn_core::{Core, Event, Run};
use kahn_model::{RunId, RunRef};

pub(crate) use control::{RetryRequest, RetryWhich};
pub(crate) use error::{ErrorKind, ServiceError};
pub(crate) use list::{RunFilter, TaskFilter};
pub(crate) use logs::{LogPart, LogRequest};
pub(crate) use output::OutputReceiver;
pub(crate) use submit::Submit;
pub(crate) use view::{EventView, RunView, TaskView, UsageView, WaitingView, WorkerView};
pub(crate) use watch::{WatchRequest, WatchUpdate};

use crate::config::Limits;
use crate::inbox::Handle;
use crate::logs::Logs;
use crate::watchers::Watchers;

/// All operations on runs and workers. Clones share their state.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    handle: Handle,
    watchers: Watchers,
    logs: Logs,
    limits: Limits,
}

impl Service {
    pub(crate) fn new(handle: Handle, watchers: Watchers, logs: Logs, limits: Limits) -> Self {
        Self { handle, watchers, logs, limits }
    }

    /// Returns the id of the run that a reference denotes.
    async fn resolve(&self, run: RunRef) -> Result<RunId, ServiceError> {
        match run {
            RunRef::Id(id) => Ok(id),
            other => self.handle.query(move |core| run_ref::resolve(core, other)).await?,
        }
    }

    /// Queries the core about a run.
    async fn ask<T: Send + 'static>(
        &self,
        run: RunRef,
        question: impl FnOnce(&Core, &Run) -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        let answer = self.handle.query(move |core| {
            let id = run_ref::resolve(core, run)?;
            match core.state().run(id) {
                Some(run) => Ok(question(core, run)),
                None => Err(ServiceError::from(kahn_core::Refusal::UnknownRun(id))),
            }
        });
        answer.await?
    }

    /// Sends `event` for a run, and returns the run once the change is durable.
    async fn change(&self, run: RunId, event: Event) -> Result<RunView, ServiceError> {
        self.handle.request(event).await?;
        self.ask(RunRef::Id(run), |_, run| RunView::of(run)).await
    }
}
