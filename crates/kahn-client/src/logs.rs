//! What an attempt printed: every byte once, over as many connections as it takes.

use std::time::Duration;

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
    /// Whether to wait for more until the attempt has ended, and for its begin if need be.
    pub is_following: bool,
    /// Whether to go on with later attempts, when following until the task has ended.
    pub is_through: bool,
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
            is_through: false,
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
    /// Whether nothing will follow for this attempt.
    pub is_sealed: bool,
    /// With [`LogPiece::is_sealed`]: what is missing and why, when not all is kept that the attempt
    /// has or may have printed.
    pub missing: Option<String>,
}

/// Output being read. Made by [`Client::logs`].
#[derive(Debug)]
pub struct Logs {
    client: Client,
    query: LogQuery,
    stream: Option<Streaming<api::LogsResponse>>,
    patience: Patience,
    /// The attempt whose end was handed out last.
    sealed: Option<u32>,
    has_ended: bool,
}

/// Whoever follows waits for a coordinator for as long as it takes: a century.
const PATIENCE_OF_FOLLOWERS: Duration = Duration::from_secs(100 * 366 * 86_400);

impl Logs {
    pub(crate) fn new(client: Client, query: LogQuery) -> Self {
        let span = match query.is_following {
            true => PATIENCE_OF_FOLLOWERS,
            false => client.options().stream_patience,
        };
        let patience = Patience::new(span);
        Self { client, query, stream: None, patience, sealed: None, has_ended: false }
    }

    /// The next piece, as soon as there is one; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] when the coordinator stayed away for too long, which for those who
    /// follow is never; calling again goes on where this stopped.
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
            // It stops, or something between stops: whoever is done says so.
            None => Err(Error::unreachable("the stream ended before the output")),
        }
    }

    /// Keeps what is new of a message, and remembers where to go on.
    fn take(&mut self, message: api::LogsResponse) -> Option<LogPiece> {
        if message.is_end {
            self.has_ended = true;
            return None;
        }
        let attempt = message.attempt;
        let is_known = self.query.attempt == Some(attempt) && self.query.tail_bytes.is_none();
        let known = if is_known { self.query.offset } else { 0 };
        let skip = usize::try_from(known.saturating_sub(message.offset)).unwrap_or(usize::MAX);
        let skip = skip.min(message.data.len());
        let data = message.data[skip..].to_vec();
        let offset = message.offset + u64::try_from(skip).unwrap_or(0);
        self.query.attempt = Some(attempt).filter(|attempt| *attempt > 0);
        self.query.offset = offset + u64::try_from(data.len()).unwrap_or(0);
        self.query.tail_bytes = None;
        let is_sealed = message.is_sealed && self.sealed != Some(attempt);
        if is_sealed {
            self.sealed = Some(attempt);
            self.has_ended |= !self.query.is_through;
        }
        let missing = (is_sealed && message.is_cut).then_some(message.note);
        let piece = LogPiece { attempt, offset, data, is_sealed, missing };
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
        is_through: query.is_through,
    };
    let mut runs = client.runs();
    let asked = runs.logs(request);
    Ok(within("logs", client.options().call_timeout, asked).await?.into_inner())
}
