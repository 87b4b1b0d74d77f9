//! Decides how long to wait for output whose end has not arrived.

use std::time::Duration;

use kahn_core::{Core, RecordKind, Run};
use kahn_model::{AttemptId, CauseKind, Timestamp, WorkerId};
use tokio::time::Instant;

/// Maximum wait after the last piece while the worker is present, for a reader that does not
/// follow.
const LATE_MAX: Duration = Duration::from_secs(30);
/// The same for a reader that follows.
const LATE_MAX_FOLLOWING: Duration = Duration::from_secs(600);
/// The same for an attempt that was lost, if its worker is back and may still have the output.
const LATE_MAX_LOST: Duration = Duration::from_secs(3);

/// Information about an attempt that is over and whose output is not sealed.
pub(super) struct EndedAttempt {
    pub is_lost: bool,
    pub worker: Option<WorkerId>,
    pub leased_at: Timestamp,
    pub ended_at: Timestamp,
    pub is_worker_present: bool,
    pub lease_ttl: Duration,
}

/// The wait for the end of an output.
#[derive(Default)]
pub(super) struct LateEnd {
    began_at: Option<Instant>,
    /// The time since which the worker has been absent.
    gone_since: Option<Instant>,
}

impl LateEnd {
    /// Returns whether to stop waiting for the end.
    pub(super) fn is_given_up(&mut self, ended: &EndedAttempt, is_following: bool) -> bool {
        let now = Instant::now();
        let began_at = *self.began_at.get_or_insert(now);
        let longest = match (ended.is_lost, is_following) {
            (true, _) => LATE_MAX_LOST,
            (false, true) => LATE_MAX_FOLLOWING,
            (false, false) => LATE_MAX,
        };
        if now - began_at > longest || (ended.is_lost && !ended.is_worker_present) {
            return true;
        }
        if ended.is_worker_present {
            self.gone_since = None;
            return false;
        }
        // After a coordinator starts, its workers attach again within a lease duration.
        now - *self.gone_since.get_or_insert(now) > ended.lease_ttl
    }
}

impl EndedAttempt {
    /// Adds what is known of its worker.
    pub(super) fn with_worker(self, core: &Core) -> Self {
        let known = self.worker.as_ref().and_then(|worker| core.state().worker(worker));
        let is_worker_present = known.is_some_and(|worker| worker.status.is_present());
        Self { is_worker_present, lease_ttl: core.state().settings().lease_ttl, ..self }
    }
}

/// Returns the worker of an attempt and whether either was lost, without what is known of the worker
/// now.
pub(super) fn ended_attempt(run: &Run, attempt: AttemptId) -> EndedAttempt {
    let of_attempt = run.history.iter().rev().filter(|record| {
        record.task == attempt.task.0 && u32::from(record.attempt) == attempt.number
    });
    let (mut is_lost, mut worker, mut leased_at) = (false, None, Timestamp::ZERO);
    let mut ended_at = Timestamp::ZERO;
    for record in of_attempt {
        ended_at = ended_at.max(record.at);
        let is_end = matches!(record.kind, RecordKind::TaskRetried | RecordKind::TaskFailed);
        is_lost |= is_end && record.cause == Some(CauseKind::WorkerLost);
        if record.kind == RecordKind::TaskLeased {
            let position = usize::from(record.worker).checked_sub(1);
            worker = position.and_then(|at| run.workers.get(at)).cloned();
            leased_at = record.at;
            break;
        }
    }
    let (is_worker_present, lease_ttl) = (false, Duration::ZERO);
    EndedAttempt { is_lost, worker, leased_at, ended_at, is_worker_present, lease_ttl }
}
