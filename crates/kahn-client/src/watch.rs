//! Watches a run: every event once and in order, across reconnects.

use kahn_model::RunId;
use kahn_proto::api;
use tonic::Streaming;

use crate::client::{Client, within};
use crate::convert;
use crate::error::Error;
use crate::retry::OutageRetry;
use crate::types::{Event, Run};

/// An update of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// The new events, in order; may be empty.
    pub events: Vec<Event>,
    /// The run after these events, if the coordinator sent it.
    pub run: Option<Run>,
}

/// A watch on a run, created by [`Client::watch`] and similar methods.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    run: RunId,
    last: u64,
    is_snapshot: bool,
    is_summary: bool,
    stream: Option<Streaming<api::WatchResponse>>,
    retry: OutageRetry,
    /// The last event before a gap, if there was one.
    gap_after: Option<u64>,
    has_ended: bool,
}

impl Watch {
    pub(crate) fn events(client: Client, run: RunId, after: u64, is_snapshot: bool) -> Self {
        Self::new(client, run, after, is_snapshot, false)
    }

    pub(crate) fn summary(client: Client, run: RunId) -> Self {
        Self::new(client, run, 0, false, true)
    }

    fn new(client: Client, run: RunId, last: u64, is_snapshot: bool, is_summary: bool) -> Self {
        let retry = OutageRetry::new(client.options().stream_outage_timeout);
        Self {
            client,
            run,
            last,
            is_snapshot,
            is_summary,
            stream: None,
            retry,
            gap_after: None,
            has_ended: false,
        }
    }

    /// Returns the number of the last event that was returned.
    #[must_use]
    pub fn last_seen(&self) -> u64 {
        self.last
    }

    /// Returns the next update once there is one, or `None` when the run has ended and nothing will
    /// follow.
    ///
    /// This method is cancel safe: dropping the future loses no update.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unreachable`] if the coordinator was unreachable for too long. Calling this
    /// again resumes.
    pub async fn next(&mut self) -> Result<Option<Update>, Error> {
        while !self.has_ended {
            match self.step().await {
                Ok(Some(update)) => return Ok(Some(update)),
                Ok(None) => {}
                Err(error) => {
                    self.stream = None;
                    self.client.retry_elsewhere(&mut self.retry, error).await?;
                }
            }
        }
        Ok(None)
    }

    /// Handles one message. Returns `None` if it contains nothing new.
    async fn step(&mut self) -> Result<Option<Update>, Error> {
        if self.stream.is_none() {
            self.stream = Some(open(&self.client, &self.request()).await?);
        }
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let message = stream.message().await.map_err(|status| Error::from_status(&status))?;
        let Some(message) = message else {
            self.stream = None;
            return self.on_end().await;
        };
        match self.take(message)? {
            Ok(update) => {
                self.retry.reset();
                let is_new = !update.events.is_empty() || update.run.is_some();
                Ok(is_new.then_some(update))
            }
            Err(found) => self.on_gap(found),
        }
    }

    /// Handles a gap. The first one may be transient; the same gap again is a bug.
    fn on_gap(&mut self, found: u64) -> Result<Option<Update>, Error> {
        self.stream = None;
        if self.gap_after == Some(self.last) {
            let message = format!("event {found} of run {} follows event {}", self.run, self.last);
            return Err(Error::bug(message));
        }
        self.gap_after = Some(self.last);
        Ok(None)
    }

    fn request(&self) -> api::WatchRequest {
        api::WatchRequest {
            run: self.run.to_string(),
            after: self.last,
            is_snapshot: self.is_snapshot,
            is_summary: self.is_summary,
        }
    }

    /// Handles a graceful end of the stream. Either the run has ended or the coordinator is about
    /// to stop; asks it which, because only it knows.
    async fn on_end(&mut self) -> Result<Option<Update>, Error> {
        if self.is_snapshot {
            self.has_ended = true;
            return Ok(None);
        }
        let run = self.client.get(self.run).await?;
        let is_complete = self.is_summary || run.last_event <= self.last;
        if run.state.is_terminal() && is_complete {
            self.has_ended = true;
            return Ok(Some(Update { events: Vec::new(), run: Some(run) }));
        }
        Err(Error::unreachable("the coordinator ended the stream before the run"))
    }

    /// Drops events that were seen before. The inner error is the number of an event after a gap.
    fn take(&mut self, message: api::WatchResponse) -> Result<Result<Update, u64>, Error> {
        let mut events = Vec::with_capacity(message.events.len());
        for event in message.events {
            if event.seq <= self.last {
                continue;
            }
            if event.seq != self.last + 1 {
                if events.is_empty() {
                    return Ok(Err(event.seq));
                }
                // The events before the gap are valid; the rest is requested again.
                self.stream = None;
                return Ok(Ok(Update { events, run: None }));
            }
            self.last = event.seq;
            events.push(convert::event(self.run, event));
        }
        let run = message.run.map(convert::run).transpose()?;
        Ok(Ok(Update { events, run }))
    }
}

async fn open(
    client: &Client,
    request: &api::WatchRequest,
) -> Result<Streaming<api::WatchResponse>, Error> {
    let mut runs = client.runs();
    let asked = runs.watch(request.clone());
    Ok(within("watch", client.options().call_timeout, asked).await?.into_inner())
}
