//! The inbox of the driver, and the handle by which everything else sends to it.

use kahn_core::{Attachment, Core, Event, Refusal, SessionId, WorkerReport};
use kahn_model::{Admission, Partition};
use kahn_store::AppendEvent;
use tokio::sync::{mpsc, oneshot};

use crate::sessions::Outbound;

/// A question to the core; what it gives is to be called once the answer may be known.
pub(crate) type Query = Box<dyn FnOnce(&Core) -> Box<dyn FnOnce() + Send> + Send>;

/// A look at the core that shows nothing to anybody outside.
pub(crate) type Peek = Box<dyn FnOnce(&Core) + Send>;

/// A checkpoint in the store.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// Its size.
    pub bytes: u64,
    /// Blobs of the partition that the checkpoint does not name.
    pub unnamed: Vec<String>,
}

/// What reaches the driver.
pub(crate) enum Input {
    /// Only time has passed.
    Nothing,
    /// Something happened; nobody waits for an answer.
    Event(Event),
    /// Somebody asks for something, and wants to know when it is durable.
    Request { event: Event, reply: oneshot::Sender<Result<(), Refusal>> },
    /// Somebody asks how things stand.
    Query(Query),
    /// Somebody asks for what is known, durable or not.
    Peek(Peek),
    /// A worker opened its stream.
    Attach { attachment: Box<Attachment>, outbound: Outbound },
    /// A worker's stream ended.
    Detach { session: SessionId },
    /// A worker reports.
    Reports { session: SessionId, reports: Vec<WorkerReport> },
    /// A worker lives.
    Heartbeat { session: SessionId, number: u64 },
    /// A worker accepts another share of its capacity.
    Admission { session: SessionId, admission: Admission },
    /// A worker will go.
    Draining { session: SessionId },
    /// The log of a partition has something to say.
    Log(AppendEvent),
    /// A checkpoint was written, or could not be.
    Checkpointed { partition: Partition, seq: u64, written: Option<Written> },
    /// Blobs that nothing names were removed, or could not be.
    Swept { partition: Partition },
    /// The coordinator is to stop once everything is durable.
    Close,
}

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It is not possible.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The coordinator stops or has lost its term; whether the request was carried out is not
    /// known, unless it was only a question.
    #[error("the coordinator is stopping")]
    Stopping,
}

/// How everything else reaches the driver.
#[derive(Clone, Debug)]
pub struct Handle {
    inbox: mpsc::Sender<Input>,
}

impl Handle {
    pub(crate) fn new(inbox: mpsc::Sender<Input>) -> Self {
        Self { inbox }
    }

    pub(crate) async fn send(&self, input: Input) -> Result<(), RequestError> {
        self.inbox.send(input).await.map_err(|_| RequestError::Stopping)
    }

    /// Lets the core handle an event, and waits until what came of it is durable.
    ///
    /// # Errors
    ///
    /// When the core refuses, or when the coordinator stops first.
    pub async fn request(&self, event: Event) -> Result<(), RequestError> {
        let (reply, answer) = oneshot::channel();
        self.send(Input::Request { event, reply }).await?;
        Ok(answer.await.map_err(|_| RequestError::Stopping)??)
    }

    /// Asks the core something, and waits until everything the answer shows is durable.
    ///
    /// # Errors
    ///
    /// When the coordinator stops first.
    pub async fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, RequestError> {
        let (reply, answer) = oneshot::channel();
        let query: Query = Box::new(move |core| {
            let value = question(core);
            // Whoever asked may have gone away.
            Box::new(move || drop(reply.send(value)))
        });
        self.send(Input::Query(query)).await?;
        answer.await.map_err(|_| RequestError::Stopping)
    }

    /// Asks the core something, and waits for nothing: for checks, whose answer shows nobody a
    /// state that is not durable.
    pub(crate) async fn peek<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, RequestError> {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may have gone away.
        let peek: Peek = Box::new(move |core| drop(reply.send(question(core))));
        self.send(Input::Peek(peek)).await?;
        answer.await.map_err(|_| RequestError::Stopping)
    }
}
