//! Receives the output of attempts from workers.

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use kahn_proto::worker::{LeaseId, LogPiece, LogReceipt, Report, report::Kind};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::{limits, status, wire};
use crate::inbox::Handle;
use crate::logs::{Piece, Receipt};
use crate::service::OutputReceiver;

/// The receipts for complete output that is not stored yet.
type Storing = FuturesUnordered<BoxFuture<'static, Option<LogReceipt>>>;

/// Receives output until the stream ends, or this coordinator may no longer lead.
pub(super) async fn receive_all(
    (handle, leads_until): (Handle, watch::Receiver<Instant>),
    mut receiver: OutputReceiver,
    mut inbound: Streaming<LogPiece>,
    receipts: tokio::sync::mpsc::Sender<Result<LogReceipt, Status>>,
) {
    let mut storing = Storing::new();
    loop {
        let piece = tokio::select! {
            piece = limits::next(&mut inbound) => piece,
            Some(stored) = storing.next(), if !storing.is_empty() => {
                let Some(receipt) = stored else { continue };
                if receipts.send(Ok(receipt)).await.is_err() {
                    return;
                }
                continue;
            }
            () = handle.ended() => return,
        };
        let Ok(Some(piece)) = piece else { return };
        if *leads_until.borrow() <= Instant::now() {
            return;
        }
        let receipt = receive(&mut receiver, piece, &mut storing).await;
        let is_over = receipt.is_err();
        if receipts.send(receipt).await.is_err() || is_over {
            return;
        }
    }
}

async fn receive(
    receiver: &mut OutputReceiver,
    piece: LogPiece,
    storing: &mut Storing,
) -> Result<LogReceipt, Status> {
    let LogPiece { lease, offset, data, is_sealed } = piece;
    let (attempt, token) = wire::lease_from_wire(lease).map_err(status::unreadable)?;
    let lease = Some(wire::lease_id(attempt, token));
    let piece = Piece { offset, data, is_sealed };
    let received = receiver.receive(attempt, token, piece).await.map_err(status::from_error)?;
    let Receipt { received, storing: is_stored } = match received {
        Ok(receipt) => receipt,
        Err(refusal) => {
            return Ok(LogReceipt { lease, refusal: refusal.into(), ..LogReceipt::default() });
        }
    };
    let receipt = LogReceipt {
        lease,
        offset: received.len,
        is_sealed: received.is_sealed && is_stored.is_none(),
        is_complete: received.is_sealed,
        refusal: String::new(),
    };
    if let Some(is_stored) = is_stored {
        storing.push(Box::pin(receipt_when_stored(is_stored, receipt.clone())));
    }
    Ok(receipt)
}

/// Waits until output is stored. Returns `None` if it was removed instead.
async fn receipt_when_stored(
    mut is_stored: watch::Receiver<bool>,
    receipt: LogReceipt,
) -> Option<LogReceipt> {
    is_stored.wait_for(|is_stored| *is_stored).await.ok()?;
    Some(LogReceipt { is_sealed: true, ..receipt })
}

/// Records which output a worker may send again.
pub(super) fn expect_output_again(receiver: &OutputReceiver, unstored: Vec<LeaseId>) {
    let attempts = unstored.into_iter().filter_map(|lease| wire::lease_from_wire(Some(lease)).ok());
    receiver.expect_again(attempts.map(|(attempt, _)| attempt));
}

/// Records each report that announces late output.
pub(super) async fn expect_late_output(receiver: &OutputReceiver, reports: &[Report]) {
    for report in reports.iter().filter(|report| is_output_late(report)) {
        if let Ok((attempt, token)) = wire::lease_from_wire(report.lease.clone()) {
            receiver.expect_late(attempt, token).await;
        }
    }
}

fn is_output_late(report: &Report) -> bool {
    matches!(&report.kind, Some(Kind::Finished(finished)) if finished.is_output_late)
}
