//! Receives the output of attempts from workers.

use kahn_proto::worker::{LogPiece, LogReceipt, Report, report::Kind};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::{limits, status, wire};
use crate::inbox::Handle;
use crate::logs::Piece;
use crate::service::OutputReceiver;

/// Receives output until the stream ends, or this coordinator may no longer lead.
pub(super) async fn receive_all(
    (handle, leads_until): (Handle, watch::Receiver<Instant>),
    mut receiver: OutputReceiver,
    mut inbound: Streaming<LogPiece>,
    receipts: tokio::sync::mpsc::Sender<Result<LogReceipt, Status>>,
) {
    loop {
        let piece = tokio::select! {
            piece = limits::next(&mut inbound) => piece,
            () = handle.ended() => return,
        };
        let Ok(Some(piece)) = piece else { return };
        if *leads_until.borrow() <= Instant::now() {
            return;
        }
        let receipt = receive(&mut receiver, piece).await;
        let is_over = receipt.is_err();
        if receipts.send(receipt).await.is_err() || is_over {
            return;
        }
    }
}

async fn receive(receiver: &mut OutputReceiver, piece: LogPiece) -> Result<LogReceipt, Status> {
    let LogPiece { lease, offset, data, is_sealed } = piece;
    let (attempt, token) = wire::lease_from_wire(lease).map_err(status::unreadable)?;
    let lease = Some(wire::lease_id(attempt, token));
    let piece = Piece { offset, data, is_sealed };
    let received = receiver.receive(attempt, token, piece).await.map_err(status::from_error)?;
    Ok(match received {
        Ok(extent) => LogReceipt {
            lease,
            offset: extent.len,
            is_sealed: extent.is_sealed,
            refusal: String::new(),
        },
        Err(refusal) => LogReceipt { lease, refusal: refusal.into(), ..LogReceipt::default() },
    })
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
