//! The gRPC service for clients that manage workers.

use kahn_proto::api::{self, workers_server::Workers};
use tonic::{Request, Response, Status};

use super::{convert, status};
use crate::service::{Service, ServiceError, WorkerView};

/// The gRPC service for clients that manage workers.
#[derive(Clone, Debug)]
pub(crate) struct WorkerService(pub Service);

fn answer(worker: Result<WorkerView, ServiceError>) -> Result<Response<api::Worker>, Status> {
    worker.map(|worker| Response::new(convert::worker(worker))).map_err(status::from_error)
}

#[tonic::async_trait]
impl Workers for WorkerService {
    async fn list(
        &self,
        _: Request<api::ListWorkersRequest>,
    ) -> Result<Response<api::ListWorkersResponse>, Status> {
        let workers = self.0.list_workers().await.map_err(status::from_error)?;
        let workers = workers.into_iter().map(convert::worker).collect();
        Ok(Response::new(api::ListWorkersResponse { workers }))
    }

    async fn list_pools(
        &self,
        _: Request<api::ListPoolsRequest>,
    ) -> Result<Response<api::ListPoolsResponse>, Status> {
        let pools = self.0.list_pools().await.map_err(status::from_error)?;
        let pools = pools.into_iter().map(convert::pool).collect();
        Ok(Response::new(api::ListPoolsResponse { pools }))
    }

    async fn cordon(
        &self,
        request: Request<api::CordonRequest>,
    ) -> Result<Response<api::Worker>, Status> {
        let api::CordonRequest { worker, is_lifted } = request.into_inner();
        answer(self.0.cordon(&worker, !is_lifted).await)
    }

    async fn drain(
        &self,
        request: Request<api::DrainRequest>,
    ) -> Result<Response<api::Worker>, Status> {
        answer(self.0.drain(&request.into_inner().worker).await)
    }
}
