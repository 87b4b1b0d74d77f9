//! The server of a bare stream: echoes the number of every heartbeat and does nothing else.

use std::pin::Pin;

use kahn_proto::worker::sessions_server::{Sessions, SessionsServer};
use kahn_proto::worker::{
    CoordinatorMessage, HeartbeatReceipt, LogPiece, LogReceipt, WorkerMessage, coordinator_message,
    worker_message,
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::exit::{Exit, Failure};

struct Echo;

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Sessions for Echo {
    type AttachStream = Out<CoordinatorMessage>;
    type ShipLogsStream = Out<LogReceipt>;

    async fn attach(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let echoed = request.into_inner().filter_map(|message| {
            let Ok(WorkerMessage { message: Some(worker_message::Message::Heartbeat(beat)) }) =
                message
            else {
                return None;
            };
            let receipt = HeartbeatReceipt { number: beat.number };
            let message = Some(coordinator_message::Message::Heartbeat(receipt));
            Some(Ok(CoordinatorMessage { message }))
        });
        Ok(Response::new(Box::pin(echoed)))
    }

    async fn ship_logs(
        &self,
        _: Request<Streaming<LogPiece>>,
    ) -> Result<Response<Self::ShipLogsStream>, Status> {
        Err(Status::unimplemented("the echo server does not accept output"))
    }
}

/// Serves on loopback until it is killed.
pub(super) async fn serve(port: u16) -> Result<Exit, Failure> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    Server::builder()
        .tcp_nodelay(true)
        .add_service(SessionsServer::new(Echo))
        .serve(address)
        .await
        .map_err(|error| Failure::refused(format!("cannot serve on port {port}: {error}")))?;
    Ok(Exit::Success)
}
