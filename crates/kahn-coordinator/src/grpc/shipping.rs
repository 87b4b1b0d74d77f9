//! What workers send of what attempts print.
//!
//! Output is taken only under the lease of its attempt: the one in force, or the one under which
//! the log was begun. What an attempt printed may arrive after its end.

use std::collections::BTreeMap;

use kahn_core::Core;
use kahn_model::{AttemptId, Token};
use kahn_proto::worker::{LogPiece, LogReceipt, Report, report::Kind};
use tonic::{Status, Streaming};
use tracing::warn;

use super::wire;
use crate::driver::Handle;
use crate::logs::{Logs, Piece};

/// Attempts of one stream whose leases are remembered as checked; the others are checked again.
const CHECKED_MAX: usize = 4096;

/// One stream of output.
pub(super) struct Receiving {
    handle: Handle,
    logs: Logs,
    checked: BTreeMap<AttemptId, Token>,
}

/// How a lease stands.
enum Standing {
    InForce,
    Over,
    Refused(&'static str),
}

impl Receiving {
    pub(super) fn new(handle: Handle, logs: Logs) -> Self {
        Self { handle, logs, checked: BTreeMap::new() }
    }

    /// Takes what is sent until the stream ends.
    pub(super) async fn run(
        mut self,
        mut inbound: Streaming<LogPiece>,
        receipts: tokio::sync::mpsc::Sender<Result<LogReceipt, Status>>,
    ) {
        while let Ok(Some(piece)) = inbound.message().await {
            let receipt = self.take(piece).await;
            let is_over = receipt.is_err();
            if receipts.send(receipt).await.is_err() || is_over {
                return;
            }
        }
    }

    async fn take(&mut self, piece: LogPiece) -> Result<LogReceipt, Status> {
        let (attempt, token) = wire::lease_from_wire(piece.lease)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let lease = Some(wire::lease_id(attempt, token));
        if self.checked.get(&attempt) != Some(&token) {
            if let Some(refusal) = check(&self.handle, &self.logs, attempt, token).await? {
                warn!(run = %attempt.run, task = attempt.task.0, %token, refusal, "output refused");
                return Ok(LogReceipt { lease, refusal: refusal.into(), ..LogReceipt::default() });
            }
            if self.checked.len() >= CHECKED_MAX {
                self.checked.clear();
            }
            self.checked.insert(attempt, token);
        }
        let LogPiece { offset, data, is_sealed, .. } = piece;
        let written = self.logs.write(attempt, token, Piece { offset, data, is_sealed }).await;
        let extent = written.map_err(|error| not_kept(attempt, &error))?;
        if extent.is_sealed {
            self.checked.remove(&attempt);
        }
        let (offset, is_sealed) = (extent.len, extent.is_sealed);
        Ok(LogReceipt { lease, offset, is_sealed, refusal: String::new() })
    }
}

fn not_kept(attempt: AttemptId, error: &std::io::Error) -> Status {
    warn!(run = %attempt.run, task = attempt.task.0, %error, "output not kept");
    Status::unavailable("output could not be kept")
}

/// Why output is not taken under this lease; `None` when it is.
async fn check(
    handle: &Handle,
    logs: &Logs,
    attempt: AttemptId,
    token: Token,
) -> Result<Option<&'static str>, Status> {
    let standing = handle.peek(move |core| standing(core, attempt, token)).await;
    match standing.map_err(super::refuse::status)? {
        Standing::InForce => Ok(None),
        Standing::Refused(why) => Ok(Some(why)),
        Standing::Over => {
            let owner = logs.owner(attempt).await.map_err(|error| not_kept(attempt, &error))?;
            let is_other = owner.is_some_and(|owner| owner != token);
            Ok(is_other.then_some("the log was begun under another lease"))
        }
    }
}

fn standing(core: &Core, attempt: AttemptId, token: Token) -> Standing {
    let Some(run) = core.state().run(attempt.run) else {
        return Standing::Refused("there is no such run");
    };
    if !run.dag.contains(attempt.task) {
        return Standing::Refused("the run has no such task");
    }
    let latest = u32::from(run.cell(attempt.task).attempt);
    if attempt.number == 0 || latest < attempt.number {
        return Standing::Refused("the task has had no such attempt");
    }
    match core.state().lease_of(run, attempt.task) {
        Some(lease) if lease.number == attempt.number => match lease.token == token {
            true => Standing::InForce,
            false => Standing::Refused("another lease is in force"),
        },
        _ => Standing::Over,
    }
}

/// Takes note of output that is said to come later, so that nobody who reads takes what is there
/// for all.
pub(super) async fn expect_late_output(handle: &Handle, logs: &Logs, reports: &[Report]) {
    for report in reports.iter().filter(|report| is_output_late(report)) {
        let Ok((attempt, token)) = wire::lease_from_wire(report.lease.clone()) else { continue };
        if !matches!(check(handle, logs, attempt, token).await, Ok(None)) {
            continue;
        }
        if let Err(error) = logs.expect(attempt, token).await {
            warn!(run = %attempt.run, task = attempt.task.0, %error, "late output not noted");
        }
    }
}

fn is_output_late(report: &Report) -> bool {
    matches!(&report.kind, Some(Kind::Finished(finished)) if finished.is_output_late)
}
