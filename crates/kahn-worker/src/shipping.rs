//! Ships the output of attempts to the coordinator, on a separate stream.
//!
//! Each piece carries its offset, and receipts acknowledge the output up to an offset. A limited
//! number of bytes per attempt is sent ahead of the receipts. After a lost connection, or if the
//! coordinator has lost output, sending continues from the last receipt, so that there are neither
//! gaps nor duplicates.
//!
//! The coordinator receives output before it is stored where the loss of the coordinator cannot harm
//! it. The worker keeps the output of an attempt until it is stored, and reports the end of the
//! attempt when it is received.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use kahn_model::{AttemptId, Token};
use kahn_proto::worker::{LeaseId, LogPiece, LogReceipt};
use kahn_runtime::backoff::Backoff;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::{debug, warn};

use crate::link::Link;
use crate::wire;
use kahn_executor::logs::{Leftover, LogDir, LogReader};

/// Maximum pieces of all attempts buffered for the stream.
const PIECES_MAX: usize = 64;
/// Maximum unacknowledged bytes per attempt.
const WINDOW_BYTES: u64 = 1 << 20;
/// Number of logs that are received but not stored above which the ends of attempts wait, so that
/// a store that fails for long does not fill the disk.
const UNSTORED_MAX: usize = 10_000;
/// Number of logs left behind that are shipped at one time.
const LEFT_BEHIND_AT_ONCE: usize = 16;
/// Maximum number of logs named in the first message of a session.
const NAMED_MAX: usize = 20_000;

/// The sender of pieces while a stream is open.
type Stream = Option<mpsc::Sender<LogPiece>>;

/// The latest receipt for an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Received {
    offset: u64,
    /// Whether everything was received.
    is_complete: bool,
    /// Whether everything is stored, too.
    is_sealed: bool,
    /// Why the output is refused; empty if it is accepted.
    refusal: String,
    /// How often the offset has decreased. Receipts replace each other before they are seen, so
    /// that the offsets alone do not show it.
    n_losses: u64,
}

/// The shipments that wait for receipts.
type Waiting = Arc<Mutex<BTreeMap<Token, watch::Sender<Received>>>>;

/// A handle to ship the output of attempts.
#[derive(Clone, Debug)]
pub(crate) struct Shipping {
    stream: watch::Receiver<Stream>,
    /// The number of logs being shipped.
    n_open: watch::Sender<usize>,
    waiting: Waiting,
    /// The attempts whose output is not stored.
    unstored: Arc<Mutex<BTreeMap<Token, AttemptId>>>,
    dir: LogDir,
    /// The number of bytes sent.
    n_sent: Counter,
}

/// A log that is being shipped.
#[derive(Debug)]
pub(crate) struct Shipment {
    done: JoinHandle<()>,
    /// Whether the whole log was received. Changes with each receipt.
    progress: watch::Receiver<bool>,
    n_open: watch::Receiver<usize>,
}

impl Shipment {
    /// Waits until the whole log was received or there was no progress for `stall_timeout`.
    /// Returns whether the whole log was received. Shipping continues in the background until it is
    /// stored; if that is outstanding for many logs, waits for some of them.
    pub(crate) async fn wait_until_received(mut self, stall_timeout: Duration) -> bool {
        let is_received = self.is_received(stall_timeout).await;
        if !self.done.is_finished() {
            tokio::select! {
                // Either ends if the worker is stopping.
                _ = self.n_open.wait_for(|n| *n < UNSTORED_MAX) => {}
                _ = &mut self.done => {}
            }
        }
        is_received
    }

    async fn is_received(&mut self, stall_timeout: Duration) -> bool {
        while !*self.progress.borrow_and_update() {
            tokio::select! {
                _ = &mut self.done => return true,
                more = tokio::time::timeout(stall_timeout, self.progress.changed()) => match more {
                    Ok(Ok(())) => {}
                    // The sender is dropped shortly before the task ends.
                    Ok(Err(_)) => return (&mut self.done).await.is_ok(),
                    Err(_) => return false,
                },
            }
        }
        true
    }
}

impl Shipping {
    /// Spawns the task that keeps a stream open while there are logs to ship.
    pub(crate) fn start(link: Link, dir: LogDir, n_sent: Counter) -> (Self, JoinHandle<()>) {
        let (streams, stream) = watch::channel(None);
        let (n_open, demand) = watch::channel(0);
        let (waiting, unstored) = (Waiting::default(), Arc::default());
        let keeping = keep_open(link, streams, demand, Arc::clone(&waiting));
        (Self { stream, n_open, waiting, unstored, dir, n_sent }, tokio::spawn(keeping))
    }

    /// Ships a log to its end and removes it when it was completely received.
    pub(crate) fn ship(&self, attempt: AttemptId, token: Token, reader: LogReader) -> Shipment {
        let (sender, progress) = watch::channel(false);
        let shipping = self.clone();
        let done = async move {
            let mut reader = reader;
            // An attempt without output has no file and nothing to ship.
            if !reader.is_silent().await {
                shipping.ship_all(attempt, token, reader, &sender).await;
            }
        };
        Shipment { done: tokio::spawn(done), progress, n_open: self.n_open.subscribe() }
    }

    /// Ships the logs that a previous process of the worker left behind, a few at a time.
    pub(crate) fn ship_left_behind(&self, left_behind: Vec<Leftover>) {
        let named = left_behind.iter().map(|leftover| (leftover.token, leftover.attempt));
        self.lock_unstored().extend(named);
        let shipping = self.clone();
        tokio::spawn(async move {
            let ship = |Leftover { attempt, token, reader }| {
                let shipping = shipping.clone();
                async move {
                    let (sender, mut progress) = watch::channel(false);
                    let shipped = async move {
                        shipping.ship_all(attempt, token, reader, &sender).await;
                    };
                    tokio::spawn(shipped);
                    // What is received needs no bandwidth any more. Fails at the end.
                    drop(progress.wait_for(|is_received| *is_received).await);
                }
            };
            stream::iter(left_behind).for_each_concurrent(LEFT_BEHIND_AT_ONCE, ship).await;
        });
    }

    /// Returns the attempts whose output is not stored yet.
    pub(crate) fn unstored(&self) -> Vec<LeaseId> {
        let unstored = self.lock_unstored();
        let named = unstored.iter().rev().take(NAMED_MAX);
        named.map(|(token, attempt)| wire::lease_id(*attempt, *token)).collect()
    }

    fn lock_unstored(&self) -> std::sync::MutexGuard<'_, BTreeMap<Token, AttemptId>> {
        self.unstored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all logs are shipped.
    pub(crate) async fn idle(&self) {
        // Cannot fail, because `self` holds the sender.
        drop(self.n_open.subscribe().wait_for(|n| *n == 0).await);
    }

    async fn ship_all(
        self,
        attempt: AttemptId,
        token: Token,
        reader: LogReader,
        progress: &watch::Sender<bool>,
    ) {
        let receipts = self.register(attempt, token);
        let stream = self.stream.clone();
        let mut sender = LogSender {
            attempt,
            token,
            reader,
            stream,
            receipts,
            n_sent: self.n_sent.clone(),
            received: 0,
            is_end_sent: false,
            n_losses: 0,
        };
        let done = sender.send_all(progress).await;
        self.lock_waiting().remove(&token);
        self.lock_unstored().remove(&token);
        self.n_open.send_modify(|n| *n -= 1);
        match done {
            Done::Abandoned => return,
            Done::Received => {
                debug!(run = %attempt.run, task = attempt.task.0, %token, "output received")
            }
            Done::Refused(why) => {
                warn!(run = %attempt.run, task = attempt.task.0, %token, why, "output refused");
            }
        }
        if let Err(error) = self.dir.remove_under(attempt, token) {
            warn!(run = %attempt.run, task = attempt.task.0, %error, "shipped output not removed");
        }
    }

    fn register(&self, attempt: AttemptId, token: Token) -> watch::Receiver<Received> {
        let (sender, receipts) = watch::channel(Received::default());
        self.lock_unstored().insert(token, attempt);
        self.lock_waiting().insert(token, sender);
        self.n_open.send_modify(|n| *n += 1);
        receipts
    }

    fn lock_waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<Token, watch::Sender<Received>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the shipping of a log ended.
enum Done {
    /// The whole log was received.
    Received,
    /// The coordinator refuses the log.
    Refused(String),
    /// The worker is stopping.
    Abandoned,
}

/// The state of sending one log.
struct LogSender {
    attempt: AttemptId,
    token: Token,
    reader: LogReader,
    stream: watch::Receiver<Stream>,
    receipts: watch::Receiver<Received>,
    n_sent: Counter,
    /// The offset up to which it was received.
    received: u64,
    is_end_sent: bool,
    /// The losses of the coordinator that are taken care of.
    n_losses: u64,
}

impl LogSender {
    async fn send_all(&mut self, progress: &watch::Sender<bool>) -> Done {
        loop {
            let stream = match self.stream.wait_for(Option::is_some).await {
                Ok(stream) => stream.clone(),
                Err(_) => return Done::Abandoned,
            };
            let Some(stream) = stream else { continue };
            // Unacknowledged pieces of the previous stream may be lost.
            self.resend_from(self.received);
            if let Some(done) = self.send_on(&stream, progress).await {
                return done;
            }
        }
    }

    fn resend_from(&mut self, offset: u64) {
        self.reader.seek(offset);
        self.is_end_sent = false;
    }

    /// Sends on one stream. Returns `None` when the stream has ended.
    async fn send_on(
        &mut self,
        stream: &mpsc::Sender<LogPiece>,
        progress: &watch::Sender<bool>,
    ) -> Option<Done> {
        loop {
            let n_under_way = self.reader.offset().saturating_sub(self.received);
            let may_send = !self.is_end_sent && n_under_way < WINDOW_BYTES;
            tokio::select! {
                biased;
                _ = self.stream.changed() => return None,
                changed = self.receipts.changed() => {
                    if changed.is_err() {
                        return Some(Done::Abandoned);
                    }
                    if let Some(done) = self.take_receipt() {
                        return Some(done);
                    }
                    progress.send_replace(self.receipts.borrow().is_complete);
                }
                next = self.reader.next(), if may_send => {
                    let piece = self.piece(next);
                    self.is_end_sent |= piece.is_sealed;
                    let n_bytes = u64::try_from(piece.data.len()).unwrap_or(u64::MAX);
                    stream.send(piece).await.ok()?;
                    self.n_sent.inc_by(n_bytes);
                }
            }
        }
    }

    fn take_receipt(&mut self) -> Option<Done> {
        let Received { offset, is_sealed, refusal, n_losses, .. } =
            self.receipts.borrow_and_update().clone();
        if !refusal.is_empty() {
            return Some(Done::Refused(refusal));
        }
        if is_sealed {
            return Some(Done::Received);
        }
        if offset < self.received || self.n_losses != n_losses {
            // The coordinator has lost output that it had received.
            self.resend_from(offset);
        } else if self.reader.offset() < offset {
            // The coordinator has output from a previous process of the worker.
            self.reader.seek(offset);
        }
        self.received = offset;
        self.n_losses = n_losses;
        None
    }

    /// Builds the next piece. On a read error, the log ends there with a note about the error.
    fn piece(&mut self, next: std::io::Result<Option<kahn_executor::logs::Chunk>>) -> LogPiece {
        let AttemptId { run, task, .. } = self.attempt;
        let (offset, data, is_sealed) = match next {
            Ok(Some(chunk)) => (chunk.offset, chunk.bytes, false),
            Ok(None) => (self.reader.offset(), Bytes::new(), true),
            Err(error) => {
                warn!(%run, task = task.0, %error, "output cannot be read");
                let line = format!("\n[kahn] the rest of the output cannot be read: {error}\n");
                (self.reader.offset(), line.into(), true)
            }
        };
        let lease = Some(wire::lease_id(self.attempt, self.token));
        LogPiece { lease, offset, data, is_sealed }
    }
}

async fn keep_open(
    link: Link,
    streams: watch::Sender<Stream>,
    mut demand: watch::Receiver<usize>,
    waiting: Waiting,
) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    // Ends when all senders of `demand` are dropped.
    while demand.wait_for(|n| *n > 0).await.is_ok() {
        let replaced = link.replaced();
        tokio::select! {
            done = run_stream(&link, &streams, &waiting, &mut backoff) => if let Err(status) = done {
                debug!(reason = status.message(), "output cannot be shipped for now");
            },
            // The session has moved to another coordinator. This one may keep the stream open.
            () = replaced => debug!("output is shipped to another coordinator"),
        }
        streams.send_replace(None);
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// Runs one stream to its end.
async fn run_stream(
    link: &Link,
    streams: &watch::Sender<Stream>,
    waiting: &Waiting,
    backoff: &mut Backoff,
) -> Result<(), Status> {
    let (tx, messages) = mpsc::channel(PIECES_MAX);
    let request = link.request(ReceiverStream::new(messages));
    let mut receipts = link.client().ship_logs(request).await?.into_inner();
    streams.send_replace(Some(tx));
    while let Some(receipt) = receipts.message().await? {
        backoff.reset();
        deliver(waiting, receipt);
    }
    Ok(())
}

fn deliver(waiting: &Waiting, receipt: LogReceipt) {
    let Ok((_, token)) = wire::lease_from_wire(receipt.lease) else { return };
    let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = waiting.get(&token) {
        let LogReceipt { offset, is_sealed, is_complete, refusal, .. } = receipt;
        sender.send_modify(|latest| {
            let n_losses = latest.n_losses + u64::from(offset < latest.offset);
            *latest = Received { offset, is_complete, is_sealed, refusal, n_losses };
        });
    }
}

#[cfg(test)]
mod tests;
