//! The inbox of the driver, and the handle for sending to it.

use kahn_core::{Attachment, Core, Event, Refusal, SessionId, WorkerReport};
use kahn_model::{Admission, Partition};
use kahn_store::AppendEvent;
use tokio::sync::{mpsc, oneshot};

use crate::sessions::Outbound;

/// A query to the core. It returns a closure to call once all state it has read is durable.
pub(crate) type Query = Box<dyn FnOnce(&Core) -> Box<dyn FnOnce() + Send> + Send>;

/// A query whose result is not shown to clients and thus need not be durable.
pub(crate) type Peek = Box<dyn FnOnce(&Core) + Send>;

/// A checkpoint in the store.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// Its size in bytes.
    pub bytes: u64,
    /// Blobs of the partition that the checkpoint does not reference.
    pub unnamed: Vec<String>,
}

/// An input of the driver.
pub(crate) enum Input {
    /// Only time has passed.
    Nothing,
    /// An event without a reply.
    Event(Event),
    /// An event of a client, who is notified once it is durable or refused.
    Request { event: Event, reply: oneshot::Sender<Result<(), Refusal>> },
    /// A query, answered once all state it has read is durable.
    Query(Query),
    /// A query, answered at once.
    Peek(Peek),
    /// A worker opened its stream.
    Attach { attachment: Box<Attachment>, outbound: Outbound },
    /// A worker's stream ended.
    Detach { session: SessionId },
    /// A worker sent reports.
    Reports { session: SessionId, reports: Vec<WorkerReport> },
    /// A worker sent a heartbeat.
    Heartbeat { session: SessionId, number: u64 },
    /// A worker changed the share of its capacity that it accepts.
    Admission { session: SessionId, admission: Admission },
    /// A worker started to drain.
    Draining { session: SessionId },
    /// An event of the log of a partition.
    Log(AppendEvent),
    /// A checkpoint was written, or writing it failed.
    Checkpointed { partition: Partition, seq: u64, written: Option<Written> },
    /// Unreferenced blobs were removed, or removing them failed.
    Swept { partition: Partition },
    /// Stops the coordinator once everything is durable.
    Close,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The core refused the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The coordinator is stopping or has lost its term. It is unknown whether the request was
    /// carried out, unless it was a query.
    #[error("the coordinator is stopping")]
    Stopping,
}

/// A handle for sending to the driver.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    inbox: mpsc::Sender<Input>,
}

impl Handle {
    pub(crate) fn new(inbox: mpsc::Sender<Input>) -> Self {
        Self { inbox }
    }

    /// Waits until the driver has ended.
    pub(crate) async fn ended(&self) {
        self.inbox.closed().await;
    }

    pub(crate) async fn send(&self, input: Input) -> Result<(), RequestError> {
        self.inbox.send(input).await.map_err(|_| RequestError::Stopping)
    }

    /// Sends an event to the core, and waits until its changes are durable.
    ///
    /// # Errors
    ///
    /// Returns an error if the core refuses the event or the coordinator stops first.
    pub(crate) async fn request(&self, event: Event) -> Result<(), RequestError> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Request { event, reply }).await?;
        Ok(answer.await.map_err(|_| RequestError::Stopping)??)
    }

    /// Queries the core, and waits until everything that the result shows is durable.
    ///
    /// # Errors
    ///
    /// Returns an error if the coordinator stops first.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, RequestError> {
        let (reply, answer) = oneshot::channel();
        let query: Query = Box::new(move |core| {
            let value = question(core);
            // The receiver may be gone.
            Box::new(move || drop(reply.send(value)))
        });
        self.send(Input::Query(query)).await?;
        answer.await.map_err(|_| RequestError::Stopping)
    }

    /// Queries the core without waiting for durability. Use this only for checks whose result does
    /// not show the state to clients.
    pub(crate) async fn peek<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, RequestError> {
        let (reply, answer) = oneshot::channel();
        // The receiver may be gone.
        let peek: Peek = Box::new(move |core| drop(reply.send(question(core))));
        self.send(Input::Peek(peek)).await?;
        answer.await.map_err(|_| RequestError::Stopping)
    }
}
