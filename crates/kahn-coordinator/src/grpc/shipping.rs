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
type Storing = FuturesUnordered<BoxFuture<'static, LogReceipt>>;

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
            Some(receipt) = storing.next(), if !storing.is_empty() => {
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

/// Waits until output is stored. If it was removed instead, the receipt lets the worker send it
/// again from its start, so that it is stored, or refused because its run does not exist any more.
async fn receipt_when_stored(
    mut is_stored: watch::Receiver<bool>,
    receipt: LogReceipt,
) -> LogReceipt {
    match is_stored.wait_for(|is_stored| *is_stored).await {
        Ok(_) => LogReceipt { is_sealed: true, ..receipt },
        Err(_) => LogReceipt { lease: receipt.lease, ..LogReceipt::default() },
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_that_was_removed_instead_of_stored_is_asked_for_again() {
        let complete = LogReceipt { offset: 7, is_complete: true, ..LogReceipt::default() };
        let (sender, is_stored) = watch::channel(false);
        drop(sender);
        assert_eq!(receipt_when_stored(is_stored, complete.clone()).await, LogReceipt::default());
        let (_sender, is_stored) = watch::channel(true);
        let stored = receipt_when_stored(is_stored, complete.clone()).await;
        assert_eq!(stored, LogReceipt { is_sealed: true, ..complete });
    }
}
