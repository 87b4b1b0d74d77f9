//! Calls about workers.

use kahn_core::Event;
use kahn_model::WorkerId;
use kahn_proto::api;
use kahn_proto::api::workers_server::Workers;
use tonic::{Request, Response, Status};

use super::{refuse, view};
use crate::driver::Handle;

/// The service that people call about workers.
#[derive(Clone, Debug)]
pub(crate) struct WorkerService {
    pub handle: Handle,
}

impl WorkerService {
    async fn show(&self, worker: WorkerId) -> Result<Response<api::Worker>, Status> {
        let id = worker.clone();
        let shown = self
            .handle
            .query(move |core| core.state().worker(&id).map(view::worker))
            .await
            .map_err(refuse::status)?;
        let unknown = || Status::not_found(format!("worker {worker} is not known"));
        shown.map(Response::new).ok_or_else(unknown)
    }
}

fn worker_id(text: &str) -> Result<WorkerId, Status> {
    text.parse().map_err(|error| refuse::invalid("worker", error))
}

#[tonic::async_trait]
impl Workers for WorkerService {
    async fn list(
        &self,
        _: Request<api::ListWorkersRequest>,
    ) -> Result<Response<api::ListWorkersResponse>, Status> {
        let workers = self
            .handle
            .query(|core| core.state().workers().iter().map(view::worker).collect())
            .await
            .map_err(refuse::status)?;
        Ok(Response::new(api::ListWorkersResponse { workers }))
    }

    async fn cordon(
        &self,
        request: Request<api::CordonRequest>,
    ) -> Result<Response<api::Worker>, Status> {
        let api::CordonRequest { worker, is_lifted } = request.into_inner();
        let worker = worker_id(&worker)?;
        let event = Event::CordonRequested { worker: worker.clone(), is_cordoned: !is_lifted };
        self.handle.request(event).await.map_err(refuse::status)?;
        self.show(worker).await
    }

    async fn drain(
        &self,
        request: Request<api::DrainRequest>,
    ) -> Result<Response<api::Worker>, Status> {
        let worker = worker_id(&request.into_inner().worker)?;
        let event = Event::DrainRequested { worker: worker.clone() };
        self.handle.request(event).await.map_err(refuse::status)?;
        self.show(worker).await
    }
}
