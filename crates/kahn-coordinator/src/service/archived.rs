//! Brings archived runs back, so that they can be changed.

use std::sync::Arc;

use kahn_core::{Core, Event, Refusal, RetryScope, RunSnapshot};
use kahn_model::{RunId, Timestamp};

use super::{Service, ServiceError};
use crate::histories;
use crate::inbox::RequestError;

/// How often a run is brought back that is archived again at once.
const RESTORES_MAX: usize = 3;

impl Service {
    /// Retries tasks of a run, which is brought back before if it is archived.
    pub(super) async fn restore_and_retry(
        &self,
        run: RunId,
        scope: RetryScope,
    ) -> Result<(), ServiceError> {
        let event = Event::RetryRequested { run, scope };
        for _ in 0..RESTORES_MAX {
            match self.handle.request(event.clone()).await {
                Err(RequestError::Refused(Refusal::Archived(_))) => {
                    self.restore_for(run, &event).await?;
                }
                other => return Ok(other?),
            }
        }
        Err(Refusal::Archived(run).into())
    }

    /// Brings an archived run back, unless it would refuse this event.
    async fn restore_for(&self, run: RunId, event: &Event) -> Result<(), ServiceError> {
        let archived = move |core: &Core| core.state().archived_run(run).cloned();
        let Some(archived) = self.handle.query(archived).await? else {
            // It was brought back or removed meanwhile.
            return Ok(());
        };
        let core = self.histories.read(run, archived.archive).await?;
        let event = event.clone();
        // A run of a million tasks takes seconds.
        let trying = tokio::task::spawn_blocking(move || try_on(&core, run, event));
        let snapshot = trying.await.map_err(|_| RequestError::Stopping)??;
        Ok(self.handle.request(Event::RunFetched(Arc::new(snapshot))).await?)
    }
}

/// Returns the only run of a core, unless it would refuse this event.
fn try_on(core: &Core, run: RunId, event: Event) -> Result<RunSnapshot, Refusal> {
    let known = core.state().run(run).ok_or(Refusal::UnknownRun(run))?;
    let snapshot = core.state().snapshot_run(known);
    let mut trial = histories::alone(snapshot.clone());
    trial.handle(Timestamp::ZERO, event)?;
    Ok(snapshot)
}
