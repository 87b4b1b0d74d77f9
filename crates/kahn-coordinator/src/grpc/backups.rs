//! The gRPC service for backups.

use std::pin::Pin;

use futures_util::stream::once;
use futures_util::{Stream, StreamExt as _};
use kahn_proto::api::{self, backups_server::Backups, export_response::Part};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::status;
use crate::service::{Exported, Service};

/// The gRPC service for backups.
#[derive(Clone, Debug)]
pub(crate) struct BackupService(pub Service);

fn message(part: Part) -> api::ExportResponse {
    api::ExportResponse { part: Some(part) }
}

#[tonic::async_trait]
impl Backups for BackupService {
    type ExportStream = Pin<Box<dyn Stream<Item = Result<api::ExportResponse, Status>> + Send>>;

    async fn export(
        &self,
        request: Request<api::ExportRequest>,
    ) -> Result<Response<Self::ExportStream>, Status> {
        let exported = self.0.export(request.into_inner().partition).await;
        let Exported { cluster, partitions, pieces } = exported.map_err(status::from_error)?;
        let header = api::ExportHeader {
            cluster: cluster.to_string(),
            partitions: partitions.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let part = |piece: Option<_>| piece.map_or(Part::End(api::ExportEnd {}), Part::Data);
        let pieces = ReceiverStream::new(pieces)
            .map(move |piece| piece.map(|piece| message(part(piece))).map_err(status::from_error));
        let header = once(std::future::ready(Ok(message(Part::Header(header)))));
        Ok(Response::new(Box::pin(header.chain(pieces))))
    }
}
