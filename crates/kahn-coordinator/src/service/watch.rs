//! Watches the events of a run.

use std::time::Duration;

use kahn_model::{RunId, RunRef};
use tokio::sync::{mpsc, watch};

use super::view::events;
use super::{EventView, RunView, Service, ServiceError};
use crate::inbox::RequestError;
use crate::watchers::News;

/// Maximum number of events in one update.
const EVENTS_PER_UPDATE: usize = 4096;
/// Maximum number of updates that wait for a slow watcher.
const UPDATES_MAX: usize = 4;
/// Interval between two summaries of a run that has not ended.
const SUMMARY_EVERY: Duration = Duration::from_millis(100);

/// What to watch of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WatchRequest {
    pub run: RunRef,
    /// Returns only events with higher sequence numbers.
    pub after: u64,
    /// Whether to end after the current events instead of at the end of the run.
    pub is_snapshot: bool,
    /// Whether to omit the events and return only the run, a few times per second.
    pub is_summary: bool,
}

/// Some events, and the run after them.
#[derive(Clone, Debug)]
pub(crate) struct WatchUpdate {
    pub events: Vec<EventView>,
    pub run: RunView,
}

impl Service {
    /// Watches a run until it has ended or the receiver is dropped.
    pub(crate) async fn watch(
        &self,
        request: WatchRequest,
    ) -> Result<mpsc::Receiver<Result<WatchUpdate, ServiceError>>, ServiceError> {
        let run = self.resolve(request.run).await?;
        let news = self.watchers.watch(run);
        // An unknown run is an error of the call, not of the stream.
        self.ask(run.into(), |_, _| ()).await?;
        let (tx, updates) = mpsc::channel(UPDATES_MAX);
        let watcher =
            Watcher { service: self.clone(), run, after: request.after, request, news, tx };
        tokio::spawn(watcher.run());
        Ok(updates)
    }
}

struct Watcher {
    service: Service,
    run: RunId,
    after: u64,
    request: WatchRequest,
    news: watch::Receiver<News>,
    tx: mpsc::Sender<Result<WatchUpdate, ServiceError>>,
}

impl Watcher {
    async fn run(mut self) {
        let tx = self.tx.clone();
        loop {
            self.news.mark_unchanged();
            let update = match self.look().await {
                Ok(update) => update,
                Err(error) => {
                    // The receiver may be gone.
                    drop(self.tx.send(Err(error)).await);
                    return;
                }
            };
            self.after = update.events.last().map_or(self.after, |event| event.seq);
            let is_full = update.events.len() == EVENTS_PER_UPDATE;
            let is_over = update.run.state.is_terminal();
            if self.tx.send(Ok(update)).await.is_err() {
                return;
            }
            if is_full {
                continue;
            }
            if is_over || self.request.is_snapshot {
                return;
            }
            tokio::select! {
                is_leading = self.wait() => if !is_leading {
                    // The receiver may be gone.
                    drop(self.tx.send(Err(RequestError::Stopping.into())).await);
                    return;
                },
                () = tx.closed() => return,
            }
        }
    }

    async fn look(&self) -> Result<WatchUpdate, ServiceError> {
        let (after, is_summary) = (self.after, self.request.is_summary);
        let (update, is_archived) = self
            .service
            .ask_either(self.run.into(), move |_, run| {
                let events =
                    if is_summary { Vec::new() } else { events(run, after, EVENTS_PER_UPDATE) };
                WatchUpdate { events, run: RunView::of(run) }
            })
            .await?;
        Ok(WatchUpdate { run: RunView { is_archived, ..update.run }, ..update })
    }

    /// Waits for news. Returns whether this coordinator still leads.
    async fn wait(&mut self) -> bool {
        if !self.request.is_summary {
            return self.news.changed().await.is_ok();
        }
        tokio::select! {
            news = self.news.wait_for(|news| news.is_over) => news.is_ok(),
            () = tokio::time::sleep(SUMMARY_EVERY) => true,
        }
    }
}
