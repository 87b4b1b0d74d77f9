//! What happens in a run, as it happens.

use std::time::Duration;

use kahn_model::RunId;
use kahn_proto::api;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Out, RunService, run_id};
use crate::grpc::view;
use crate::watchers::News;

/// Events in one message.
const EVENTS_PER_MESSAGE: usize = 4096;
/// Messages that may wait for a watcher that does not read.
const MESSAGES_MAX: usize = 4;
/// Pause between two summaries of a run that has not ended.
const SUMMARY_EVERY: Duration = Duration::from_millis(100);

impl RunService {
    pub(super) async fn watch_run(
        &self,
        request: api::WatchRequest,
    ) -> Result<Out<api::WatchResponse>, Status> {
        let run = run_id(&request.run)?;
        let news = self.watchers.watch(run);
        // An unknown run is refused here and not in the stream.
        self.ask(run, |_| ()).await?;
        let (tx, messages) = mpsc::channel(MESSAGES_MAX);
        let watcher =
            Watcher { service: self.clone(), run, after: request.after, request, news, tx };
        tokio::spawn(watcher.run());
        Ok(Box::pin(ReceiverStream::new(messages)))
    }
}

struct Watcher {
    service: RunService,
    run: RunId,
    after: u64,
    request: api::WatchRequest,
    news: watch::Receiver<News>,
    tx: mpsc::Sender<Result<api::WatchResponse, Status>>,
}

impl Watcher {
    async fn run(mut self) {
        loop {
            self.news.mark_unchanged();
            let (response, is_over) = match self.look().await {
                Ok(found) => found,
                Err(status) => {
                    // Whoever watched may have gone away.
                    drop(self.tx.send(Err(status)).await);
                    return;
                }
            };
            self.after = response.events.last().map_or(self.after, |event| event.seq);
            let is_full = response.events.len() == EVENTS_PER_MESSAGE;
            if self.tx.send(Ok(response)).await.is_err() {
                return;
            }
            if is_full {
                continue;
            }
            if is_over || self.request.is_snapshot || !self.wait().await {
                return;
            }
        }
    }

    async fn look(&self) -> Result<(api::WatchResponse, bool), Status> {
        let (after, is_summary) = (self.after, self.request.is_summary);
        self.service
            .ask(self.run, move |run| {
                let events = if is_summary {
                    Vec::new()
                } else {
                    view::events(run, after, EVENTS_PER_MESSAGE)
                };
                let run_view = view::run(run, true);
                (api::WatchResponse { events, run: Some(run_view) }, run.state.is_terminal())
            })
            .await
    }

    /// Waits for news; says whether to look again.
    async fn wait(&mut self) -> bool {
        if !self.request.is_summary {
            return tokio::select! {
                news = self.news.changed() => news.is_ok(),
                () = self.tx.closed() => false,
            };
        }
        tokio::select! {
            news = self.news.wait_for(|news| news.is_over) => news.is_ok(),
            () = self.tx.closed() => false,
            () = tokio::time::sleep(SUMMARY_EVERY) => true,
        }
    }
}
