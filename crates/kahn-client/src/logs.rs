//! What an attempt printed: every byte once, over as many connections as it takes.

use kahn_model::RunId;
use kahn_proto::api;
use tonic::Streaming;

use crate::client::{Client, within};
use crate::error::Error;
use crate::retry::Patience;

/// Which output, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: String,
    /// The attempt, from 1; the latest when not given.
    pub attempt: Option<u32>,
    /// From this byte on.
    pub offset: u64,
    /// Only so many bytes before the end to begin with; goes before `offset`.
    pub tail_bytes: Option<u64>,
    /// Whether to wait for more until the attempt has ended.
    pub is_following: bool,
}

impl LogQuery {
    /// All that the latest attempt of a task has printed up to now.
    #[must_use]
    pub fn new(run: RunId, task: impl Into<String>) -> Self {
        Self {
            run,
            task: task.into(),
            attempt: None,
            offset: 0,
            tail_bytes: None,
            is_following: false,
        }
    }
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPiece {
    /// The attempt.
    pub attempt: u32,
    /// Where the piece begins, in bytes from the start of the attempt's output.
    pub offset: u64,
    /// The bytes.
    pub data: Vec<u8>,
    /// Whether nothing will follow.
    pub is_sealed: bool,
}

/// Output being read. Made by [`Client::logs`].
#[derive(Debug)]
pub struct Logs {
    client: Client,
    query: LogQuery,
    stream: Option<Streaming<api::LogsResponse>>,
    patience: Patience,
    has_ended: bool,
}

impl Logs {
    pub(crate) fn new(client: Client, query: LogQuery) -> Self {
        let patience = Patience::new(client.options().stream_patience);
        Self { client, query, stream: None, patience, has_ended: false }
    }

    /// The next piece, as soon as there is one; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] when the coordinator stayed away for too long; calling again goes on
    /// where this stopped.
    pub async fn next(&mut self) -> Result<Option<LogPiece>, Error> {
        while !self.has_ended {
            match self.step().await {
                Ok(Some(piece)) => {
                    self.patience.restore();
                    return Ok(Some(piece));
                }
                Ok(None) => {}
                Err(error) => {
                    self.stream = None;
                    self.patience.pause(error).await?;
                }
            }
        }
        Ok(None)
    }

    async fn step(&mut self) -> Result<Option<LogPiece>, Error> {
        if self.stream.is_none() {
            self.stream = Some(open(&self.client, &self.query).await?);
        }
        let Some(stream) = &mut self.stream else { return Ok(None) };
        match stream.message().await.map_err(|status| Error::from_status(&status))? {
            Some(message) => Ok(self.take(message)),
            None => {
                self.has_ended = true;
                Ok(None)
            }
        }
    }

    /// Keeps what is new of a message, and remembers where to go on.
    fn take(&mut self, message: api::LogsResponse) -> Option<LogPiece> {
        let is_same_attempt = self.query.attempt == Some(message.attempt);
        let wanted = if is_same_attempt { self.query.offset } else { 0 };
        let is_first = self.query.attempt.is_none() || self.query.tail_bytes.is_some();
        let skip = if is_first { 0 } else { wanted.saturating_sub(message.offset) };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(message.data.len());
        let data = message.data[skip..].to_vec();
        let offset = message.offset + u64::try_from(skip).unwrap_or(0);
        self.query.attempt = Some(message.attempt).filter(|attempt| *attempt > 0);
        self.query.offset = offset + u64::try_from(data.len()).unwrap_or(0);
        self.query.tail_bytes = None;
        self.has_ended |= message.is_sealed;
        let piece =
            LogPiece { attempt: message.attempt, offset, data, is_sealed: message.is_sealed };
        (!piece.data.is_empty() || piece.is_sealed).then_some(piece)
    }
}

async fn open(client: &Client, query: &LogQuery) -> Result<Streaming<api::LogsResponse>, Error> {
    let request = api::LogsRequest {
        run: query.run.to_string(),
        task: query.task.clone(),
        attempt: query.attempt.unwrap_or(0),
        offset: query.offset,
        is_following: query.is_following,
        tail_bytes: query.tail_bytes.unwrap_or(0),
    };
    let mut runs = client.runs();
    let asked = runs.logs(request);
    Ok(within("logs", client.options().call_timeout, asked).await?.into_inner())
}
