//! Operations on workers.

use std::time::Duration;

use kahn_core::{Event, PoolDemand, Refusal, Worker};
use kahn_model::{Timestamp, WorkerId};

use super::{ErrorKind, Service, ServiceError, WorkerView};

/// How long a lost worker is shown.
const SHOWN_FOR: Duration = Duration::from_hours(1);

impl Service {
    /// Returns all known workers, but those that were lost long ago.
    pub(crate) async fn list_workers(&self) -> Result<Vec<WorkerView>, ServiceError> {
        let workers = self.handle.query(|core| {
            let now = core.state().now();
            let workers = core.state().workers().iter();
            workers.filter(|worker| is_shown(worker, now)).map(WorkerView::of).collect()
        });
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

/// Where workers come and go, each with a name of its own, the lost ones would soon be the most.
fn is_shown(worker: &Worker, now: Timestamp) -> bool {
    worker.status.is_present() || worker.is_cordoned || now.since(worker.heard_at) < SHOWN_FOR
}

fn worker_id(text: &str) -> Result<WorkerId, ServiceError> {
    text.parse().map_err(|error| ServiceError::invalid("worker", error))
}

#[cfg(test)]
mod tests {
    use kahn_core::testing::World;

    use super::*;

    #[test]
    fn a_worker_that_was_lost_long_ago_is_not_shown() {
        let mut world = World::new();
        world.attach("gone", "cpu=1");
        world.attach("here", "cpu=1");
        world.detach("gone");
        let shown = |world: &World| -> Vec<String> {
            let (state, now) = (world.core.state(), world.now);
            let workers = state.workers().iter().filter(|worker| is_shown(worker, now));
            workers.map(|worker| worker.id.to_string()).collect()
        };
        world.wait(Duration::from_secs(60));
        assert_eq!(shown(&world), ["gone", "here"]);
        world.wait(SHOWN_FOR);
        assert_eq!(shown(&world), ["here"]);
    }
}
