//! Operations on workers.

use kahn_core::{Event, PoolDemand, Refusal};
use kahn_model::WorkerId;

use super::{ErrorKind, Service, ServiceError, WorkerView};

impl Service {
    /// Returns all known workers.
    pub(crate) async fn list_workers(&self) -> Result<Vec<WorkerView>, ServiceError> {
        let workers =
            self.handle.query(|core| core.state().workers().iter().map(WorkerView::of).collect());
        Ok(workers.await?)
    }

    /// Returns the configured pools, with the number of workers that each has and needs.
    pub(crate) async fn list_pools(&self) -> Result<Vec<PoolDemand>, ServiceError> {
        let pools = self.handle.query(kahn_core::Core::pool_demand).await?;
        pools.ok_or_else(|| {
            let reason = "some workers with running tasks have not come back yet since this \
                          coordinator began to lead; try again in a few seconds";
            ServiceError::new(ErrorKind::Unavailable, reason)
        })
    }

    /// Cordons or uncordons a worker.
    pub(crate) async fn cordon(
        &self,
        worker: &str,
        is_cordoned: bool,
    ) -> Result<WorkerView, ServiceError> {
        let worker = worker_id(worker)?;
        self.handle.request(Event::CordonRequested { worker: worker.clone(), is_cordoned }).await?;
        self.show_worker(worker).await
    }

    /// Drains a worker: it finishes the leases it holds and then stops.
    pub(crate) async fn drain(&self, worker: &str) -> Result<WorkerView, ServiceError> {
        let worker = worker_id(worker)?;
        self.handle.request(Event::DrainRequested { worker: worker.clone() }).await?;
        self.show_worker(worker).await
    }

    async fn show_worker(&self, worker: WorkerId) -> Result<WorkerView, ServiceError> {
        let id = worker.clone();
        let shown = self.handle.query(move |core| core.state().worker(&id).map(WorkerView::of));
        shown.await?.ok_or_else(|| Refusal::UnknownWorker(worker).into())
    }
}

fn worker_id(text: &str) -> Result<WorkerId, ServiceError> {
    text.parse().map_err(|error| ServiceError::invalid("worker", error))
}
