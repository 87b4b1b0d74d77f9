//! What attempts print goes to the coordinator, on a stream of its own.
//!
//! Each attempt has one piece under way at a time and goes on when that is received. Pieces bear
//! their offsets, so sending one again after a lost connection leaves neither gap nor repeat.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kahn_model::{AttemptId, Token};
use kahn_proto::worker::{LogPiece, LogReceipt};
use kahn_runtime::backoff::Backoff;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::{debug, warn};

use crate::logs::{LogDir, LogReader};
use crate::session::Link;
use crate::wire;

/// Pieces of all attempts that may wait for the stream.
const PIECES_MAX: usize = 64;

/// A piece that waits for its receipt.
struct Parcel {
    attempt: AttemptId,
    token: Token,
    piece: LogPiece,
    received: oneshot::Sender<()>,
}

/// Where attempts bring what they print.
#[derive(Clone, Debug)]
pub(crate) struct Shipping {
    parcels: mpsc::Sender<Parcel>,
    dir: LogDir,
}

impl Shipping {
    /// Starts the task that keeps the stream open.
    pub(crate) fn start(link: Link, dir: LogDir) -> Self {
        let (parcels, waiting) = mpsc::channel(PIECES_MAX);
        tokio::spawn(keep_open(link, waiting));
        Self { parcels, dir }
    }

    /// Ships a log to its end, and removes it when all of it was received.
    pub(crate) async fn ship(self, attempt: AttemptId, token: Token, mut reader: LogReader) {
        loop {
            let piece = match reader.next().await {
                Ok(Some(chunk)) => (chunk.offset, chunk.bytes, false),
                // A silent attempt has no file.
                Ok(None) if reader.offset() == 0 => return,
                Ok(None) => (reader.offset(), Bytes::new(), true),
                Err(error) => {
                    warn!(run = %attempt.run, task = attempt.task.0, %error, "output cannot be read");
                    break;
                }
            };
            let is_sealed = piece.2;
            if !self.deliver(attempt, token, piece).await {
                return;
            }
            if is_sealed {
                break;
            }
        }
        if let Err(error) = self.dir.remove(attempt) {
            warn!(run = %attempt.run, task = attempt.task.0, %error, "shipped output not removed");
        }
    }

    /// Waits until a piece was received; says whether it was, and not the worker that stopped.
    async fn deliver(
        &self,
        attempt: AttemptId,
        token: Token,
        (offset, data, is_sealed): (u64, Bytes, bool),
    ) -> bool {
        let (received, receipt) = oneshot::channel();
        let lease = Some(wire::lease_id(attempt, token));
        let piece = LogPiece { lease, offset, data, is_sealed };
        let parcel = Parcel { attempt, token, piece, received };
        self.parcels.send(parcel).await.is_ok() && receipt.await.is_ok()
    }
}

async fn keep_open(link: Link, mut waiting: mpsc::Receiver<Parcel>) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    let mut under_way: BTreeMap<AttemptId, Parcel> = BTreeMap::new();
    loop {
        if under_way.is_empty() {
            let Some(parcel) = waiting.recv().await else { return };
            under_way.insert(parcel.attempt, parcel);
        }
        match converse(&link, &mut waiting, &mut under_way, &mut backoff).await {
            Ok(()) => return,
            Err(status) => debug!(reason = status.message(), "output is not taken for now"),
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// Runs one stream; ends well only when the worker stops.
async fn converse(
    link: &Link,
    waiting: &mut mpsc::Receiver<Parcel>,
    under_way: &mut BTreeMap<AttemptId, Parcel>,
    backoff: &mut Backoff,
) -> Result<(), Status> {
    let (tx, messages) = mpsc::channel(PIECES_MAX);
    let gone = |_| Status::unavailable("the stream has ended");
    for parcel in under_way.values() {
        // The channel is as large as what can be under way, or the stream drains it below.
        tx.try_send(parcel.piece.clone()).map_err(|_| Status::unavailable("too much at once"))?;
    }
    let request = link.request(ReceiverStream::new(messages));
    let mut receipts = link.client().ship_logs(request).await?.into_inner();
    loop {
        tokio::select! {
            receipt = receipts.message() => {
                let receipt = receipt?.ok_or_else(|| Status::unavailable("the stream has ended"))?;
                backoff.reset();
                settle(under_way, receipt);
            }
            parcel = waiting.recv(), if under_way.len() < PIECES_MAX => {
                let Some(parcel) = parcel else { return Ok(()) };
                let piece = parcel.piece.clone();
                under_way.insert(parcel.attempt, parcel);
                tx.send(piece).await.map_err(gone)?;
            }
        }
    }
}

fn settle(under_way: &mut BTreeMap<AttemptId, Parcel>, receipt: LogReceipt) {
    let Ok((attempt, _)) = wire::lease_from_wire(receipt.lease) else { return };
    let is_covered = under_way.get(&attempt).is_some_and(|parcel| {
        let end = parcel.piece.offset + u64::try_from(parcel.piece.data.len()).unwrap_or(0);
        receipt.offset >= end && (receipt.is_sealed || !parcel.piece.is_sealed)
    });
    if is_covered && let Some(parcel) = under_way.remove(&attempt) {
        debug!(run = %attempt.run, task = attempt.task.0, token = %parcel.token, "output received");
        // The attempt's shipper may have stopped with the worker.
        let _ = parcel.received.send(());
    }
}
