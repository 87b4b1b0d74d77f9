//! Receives the output of attempts.
//!
//! Output is accepted only under the lease of its attempt: the one in force, or the one under which
//! the log was started. Output may arrive after the end of the attempt.

use std::collections::BTreeMap;

use kahn_core::{ArchiveRef, Core};
use kahn_model::{AttemptId, Token};
use tracing::warn;

use super::{ErrorKind, ServiceError};
use crate::histories::Histories;
use crate::inbox::Handle;
use crate::logs::{Logs, Piece, Receipt};

/// Maximum number of attempts whose leases a receiver remembers as checked; others are checked
/// again.
const CHECKED_MAX: usize = 4096;

/// Receives the output that one worker sends.
#[derive(Debug)]
pub(crate) struct OutputReceiver {
    handle: Handle,
    logs: Logs,
    histories: Histories,
    checked: BTreeMap<AttemptId, Token>,
}

/// The state of the lease under which output arrives.
enum LeaseStatus {
    InForce,
    Over,
    /// The run is archived.
    Archived(ArchiveRef),
    Refused(&'static str),
}

impl OutputReceiver {
    pub(crate) fn new(handle: Handle, logs: Logs, histories: Histories) -> Self {
        Self { handle, logs, histories, checked: BTreeMap::new() }
    }

    /// Stores a piece of output. Returns what was received, or why output under this lease is not
    /// accepted.
    pub(crate) async fn receive(
        &mut self,
        attempt: AttemptId,
        token: Token,
        piece: Piece,
    ) -> Result<Result<Receipt, &'static str>, ServiceError> {
        if self.checked.get(&attempt) != Some(&token) {
            if let Some(refusal) = self.check(attempt, token).await? {
                warn!(run = %attempt.run, task = attempt.task.0, %token, refusal, "output refused");
                return Ok(Err(refusal));
            }
            if self.checked.len() >= CHECKED_MAX {
                self.checked.clear();
            }
            self.checked.insert(attempt, token);
        }
        let written = self.logs.write(attempt, token, piece).await;
        let receipt = written.map_err(|error| not_kept(attempt, &error))?;
        if receipt.received.is_sealed {
            self.checked.remove(&attempt);
        }
        Ok(Ok(receipt))
    }

    /// Records that a worker has output of these attempts, which it sends again if necessary. A
    /// token does not matter: readers wait a bit longer at most.
    pub(crate) fn expect_again(&self, attempts: impl Iterator<Item = AttemptId>) {
        self.logs.expect_again(attempts);
    }

    /// Records that the rest of an attempt's output arrives later, so that readers do not consider
    /// it complete.
    pub(crate) async fn expect_late(&self, attempt: AttemptId, token: Token) {
        if self.logs.is_shared() {
            self.logs.expect_again(std::iter::once(attempt));
            return;
        }
        if !matches!(self.check(attempt, token).await, Ok(None)) {
            return;
        }
        if let Err(error) = self.logs.expect(attempt, token).await {
            warn!(run = %attempt.run, task = attempt.task.0, %error, "late output not recorded");
        }
    }

    /// Returns why output is not accepted under this lease, or `None` if it is.
    async fn check(
        &self,
        attempt: AttemptId,
        token: Token,
    ) -> Result<Option<&'static str>, ServiceError> {
        let status = self.handle.peek(move |core| lease_status(core, attempt, token)).await?;
        let status = match status {
            LeaseStatus::Archived(archive) => {
                match self.histories.read(attempt.run, archive).await {
                    Ok(core) => lease_status(&core, attempt, token),
                    Err(error) if error.may_pass() => return Err(error.into()),
                    // An error would hold back all output of the worker forever.
                    Err(error) => {
                        warn!(%error, "output of an archived run cannot be checked");
                        LeaseStatus::Refused("what is stored of the run cannot be read")
                    }
                }
            }
            status => status,
        };
        match status {
            LeaseStatus::InForce => Ok(None),
            LeaseStatus::Refused(why) => Ok(Some(why)),
            LeaseStatus::Over | LeaseStatus::Archived(_) => {
                let owner = self.logs.owner(attempt).await;
                let owner = owner.map_err(|error| not_kept(attempt, &error))?;
                let is_other = owner.is_some_and(|owner| owner != token);
                Ok(is_other.then_some("the log was begun under another lease"))
            }
        }
    }
}

fn not_kept(attempt: AttemptId, error: &std::io::Error) -> ServiceError {
    warn!(run = %attempt.run, task = attempt.task.0, %error, "output not kept");
    ServiceError::new(ErrorKind::Unavailable, "output could not be kept")
}

fn lease_status(core: &Core, attempt: AttemptId, token: Token) -> LeaseStatus {
    let Some(run) = core.state().run(attempt.run) else {
        return match core.state().archived_run(attempt.run) {
            Some(archived) => LeaseStatus::Archived(archived.archive),
            None => LeaseStatus::Refused("there is no such run"),
        };
    };
    if !run.dag.contains(attempt.task) {
        return LeaseStatus::Refused("the run has no such task");
    }
    let latest = u32::from(run.cell(attempt.task).attempt);
    if attempt.number == 0 || latest < attempt.number {
        return LeaseStatus::Refused("the task has had no such attempt");
    }
    match core.state().lease_of(run, attempt.task) {
        Some(lease) if lease.number == attempt.number => match lease.token == token {
            true => LeaseStatus::InForce,
            false => LeaseStatus::Refused("another lease is in force"),
        },
        _ => LeaseStatus::Over,
    }
}
