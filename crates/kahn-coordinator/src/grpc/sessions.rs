//! The session service: handles the streams of workers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::Stream;
use kahn_core::SessionId;
use kahn_proto::worker::sessions_server::Sessions;
use kahn_proto::worker::{
    CoordinatorMessage, LogPiece, LogReceipt, WorkerMessage, worker_message::Message,
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;

use super::shipping::{expect_late_output, expect_output_again, receive_all};
use super::{limits, status, wire};
use crate::histories::Histories;
use crate::inbox::{Handle, Input, RequestError};
use crate::logs::Logs;
use crate::service::{OutputReceiver, ServiceError};
use crate::sessions::MESSAGES_MAX;

/// Maximum number of receipts that wait for a worker that does not read.
const RECEIPTS_MAX: usize = 64;

/// The service for workers.
#[derive(Clone, Debug)]
pub(crate) struct SessionService {
    pub handle: Handle,
    /// Until when this coordinator certainly leads.
    pub leads_until: watch::Receiver<Instant>,
    pub logs: Logs,
    pub histories: Histories,
    pub next_session: Arc<AtomicU64>,
}

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl SessionService {
    fn receiver(&self) -> OutputReceiver {
        OutputReceiver::new(self.handle.clone(), self.logs.clone(), self.histories.clone())
    }
}

#[tonic::async_trait]
impl Sessions for SessionService {
    type AttachStream = Out<CoordinatorMessage>;
    type ShipLogsStream = Out<LogReceipt>;

    async fn attach(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        // A coordinator that may not lead any more must not keep the worker from finding the leader.
        self.handle.query(|_| ()).await.map_err(stopping)?;
        // Session numbers follow the order in which streams were opened. The response is sent
        // before the worker reports what it holds, so the report is not older than this term.
        let session = SessionId(self.next_session.fetch_add(1, Ordering::Relaxed));
        let (outbound, messages) = mpsc::channel(MESSAGES_MAX);
        let handle = self.handle.clone();
        let receiver = self.receiver();
        tokio::spawn(async move {
            let inbound = request.into_inner();
            if let Err(status) = run_stream(&handle, &receiver, session, inbound, &outbound).await {
                debug!(session = session.0, %status, "worker stream failed");
                // The receiver may be gone.
                drop(outbound.try_send(Err(status)));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn ship_logs(
        &self,
        request: Request<Streaming<LogPiece>>,
    ) -> Result<Response<Self::ShipLogsStream>, Status> {
        let receiver = self.receiver();
        let (tx, receipts) = mpsc::channel(RECEIPTS_MAX);
        let leadership = (self.handle.clone(), self.leads_until.clone());
        tokio::spawn(receive_all(leadership, receiver, request.into_inner(), tx));
        Ok(Response::new(Box::pin(ReceiverStream::new(receipts))))
    }
}

fn stopping(error: RequestError) -> Status {
    status::from_error(ServiceError::from(error))
}

/// Handles all messages of a worker's stream.
async fn run_stream(
    handle: &Handle,
    receiver: &OutputReceiver,
    session: SessionId,
    mut inbound: Streaming<WorkerMessage>,
    outbound: &mpsc::Sender<Result<CoordinatorMessage, Status>>,
) -> Result<(), Status> {
    let first = limits::next(&mut inbound).await?.and_then(|message| message.message);
    let Some(Message::Hello(mut hello)) = first else {
        return Err(Status::invalid_argument("the first message must be hello"));
    };
    let is_draining = hello.is_draining;
    expect_late_output(receiver, &hello.unacknowledged).await;
    expect_output_again(receiver, std::mem::take(&mut hello.unstored_logs));
    let attachment = wire::attachment(session, hello).map_err(status::unreadable)?;
    debug!(worker = %attachment.worker, session = session.0, "worker attaches");
    let attach = Input::Attach { attachment: Box::new(attachment), outbound: outbound.clone() };
    handle.send(attach).await.map_err(stopping)?;
    if is_draining {
        handle.send(Input::Draining { session }).await.map_err(stopping)?;
    }
    let read = read(handle, receiver, session, &mut inbound).await;
    // The driver may be gone.
    drop(handle.send(Input::Detach { session }).await);
    read
}

async fn read(
    handle: &Handle,
    receiver: &OutputReceiver,
    session: SessionId,
    inbound: &mut Streaming<WorkerMessage>,
) -> Result<(), Status> {
    loop {
        let message = tokio::select! {
            message = limits::next(inbound) => message?,
            // The worker finds the next leader at once, and not only with its next message.
            () = handle.ended() => return Err(stopping(RequestError::Stopping)),
        };
        let Some(message) = message else { return Ok(()) };
        if let Some(Message::Reports(reports)) = &message.message {
            expect_late_output(receiver, &reports.reports).await;
        }
        let input = wire::input(session, message).map_err(status::unreadable)?;
        handle.send(input).await.map_err(stopping)?;
    }
}
