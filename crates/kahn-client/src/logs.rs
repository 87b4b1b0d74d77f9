//! Reads the output of attempts: every byte once, across reconnects.

use std::time::Duration;

use kahn_model::RunId;
use kahn_proto::api;
use tonic::Streaming;

use crate::client::{Client, within};
use crate::error::Error;
use crate::retry::OutageRetry;

/// Selects the output to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: String,
    /// The attempt, starting at 1; `None` for the latest.
    pub attempt: Option<u32>,
    /// The first byte to read.
    pub offset: u64,
    /// If set, starts this many bytes before the end. Takes precedence over `offset`.
    pub tail_bytes: Option<u64>,
    /// Whether to wait for more output until the attempt has ended, including for its start.
    pub is_following: bool,
    /// When following, whether to continue with later attempts until the task has ended.
    pub is_through: bool,
}

impl LogQuery {
    /// Selects all output so far of the latest attempt of a task.
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
    /// The position of the piece, in bytes from the start of the attempt's output.
    pub offset: u64,
    /// The bytes.
    pub data: Vec<u8>,
    /// Whether no more output of this attempt will follow.
    pub is_sealed: bool,
    /// With [`LogPiece::is_sealed`]: what is missing and why, if some output is or may be missing.
    pub missing: Option<String>,
}

/// A stream of output, created by [`Client::logs`].
#[derive(Debug)]
pub struct Logs {
    client: Client,
    query: LogQuery,
    stream: Option<Streaming<api::LogsResponse>>,
    retry: OutageRetry,
    /// The attempt whose end was returned last.
    sealed: Option<u32>,
    has_ended: bool,
}

/// When following, waits for a coordinator practically forever: a century.
const FOLLOW_OUTAGE_TIMEOUT: Duration = Duration::from_secs(100 * 366 * 86_400);

impl Logs {
    pub(crate) fn new(client: Client, query: LogQuery) -> Self {
        let timeout = match query.is_following {
            true => FOLLOW_OUTAGE_TIMEOUT,
            false => client.options().stream_outage_timeout,
        };
        let retry = OutageRetry::new(timeout);
        Self { client, query, stream: None, retry, sealed: None, has_ended: false }
    }

    /// Returns the next piece once there is one, or `None` at the end.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unreachable`] if the coordinator was unreachable for too long, which never
    /// happens when following. Calling this again resumes.
    pub async fn next(&mut self) -> Result<Option<LogPiece>, Error> {
        while !self.has_ended {
            match self.step().await {
                Ok(Some(piece)) => {
                    self.retry.reset();
                    return Ok(Some(piece));
                }
                Ok(None) => {}
                Err(error) => {
                    self.stream = None;
                    self.client.retry_elsewhere(&mut self.retry, error).await?;
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
            // The coordinator or a proxy is stopping: a complete stream has an end message.
            None => Err(Error::unreachable("the stream ended before the output")),
        }
    }

    /// Returns the new part of a message, and records where to resume.
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
