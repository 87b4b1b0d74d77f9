//! Handles reports on attempts; the only place where an outcome is accepted.

use std::time::Duration;

use kahn_model::{Cause, CauseKind, Failure, Outputs, Usage};

use crate::change::{Change, Then};
use crate::command::{Command, StopReason};
use crate::core::Core;
use crate::event::{ReportKind, SessionId, WorkerReport};
use crate::refusal::Refusal;
use crate::state::{Flags, Lease, LeaseIx, LeasePhase, Run, WorkerIx};

impl Core {
    /// Handles a report. A report without the token in force changes nothing: it is acknowledged,
    /// so that the worker deletes it, and any attempt still running under its token is stopped.
    pub(crate) fn on_reported(
        &mut self,
        session: SessionId,
        report: WorkerReport,
    ) -> Result<(), Refusal> {
        let worker = self.mark_alive(session)?;
        self.take_report(session, worker, report);
        Ok(())
    }

    pub(crate) fn take_report(
        &mut self,
        session: SessionId,
        worker: WorkerIx,
        report: WorkerReport,
    ) {
        let WorkerReport { attempt, token, kind } = report;
        let in_force = self
            .state
            .find_lease(attempt.run, attempt.task, token)
            .filter(|ix| self.state.leases[ix.0].worker == worker);
        let is_final = !matches!(kind, ReportKind::Started);
        match in_force {
            Some(lease) => self.accept(lease, kind),
            None if !is_final => self.command(Command::Stop {
                session,
                attempt,
                token,
                reason: StopReason::Superseded,
            }),
            None => {}
        }
        if is_final {
            self.command(Command::Acknowledge { session, attempt, token });
        }
    }

    fn accept(&mut self, lease_ix: LeaseIx, kind: ReportKind) {
        let lease = &self.state.leases[lease_ix.0];
        let (run, task) = (lease.run_id, lease.task);
        match kind {
            ReportKind::Started if lease.phase == LeasePhase::Started => {}
            ReportKind::Started => self.emit(Change::AttemptStarted { run, task }),
            // An attempt that has started cannot be returned.
            ReportKind::Returned if lease.phase == LeasePhase::Started => {
                let message = "its worker gave it back after it had started";
                let failure = Failure::new(Cause::of(CauseKind::Preempted), message);
                self.finish(lease_ix, Err(failure), Usage::default());
            }
            ReportKind::Returned => self.end_unstarted(lease_ix),
            ReportKind::Finished { outcome, usage } => self.finish(lease_ix, outcome, usage),
        }
    }

    /// Ends a lease whose attempt never started.
    pub(crate) fn end_unstarted(&mut self, lease_ix: LeaseIx) {
        match self.exceeded_timeout(lease_ix) {
            Some(failure) => self.finish(lease_ix, Err(failure), Usage::default()),
            None => {
                let lease = &self.state.leases[lease_ix.0];
                self.emit(Change::LeaseReturned { run: lease.run_id, task: lease.task });
            }
        }
    }

    /// Returns the failure for the timeout because of which the attempt was stopped, if it was one
    /// that the worker does not know.
    fn exceeded_timeout(&self, lease_ix: LeaseIx) -> Option<Failure> {
        let lease = &self.state.leases[lease_ix.0];
        let timeout = lease.exceeded?;
        let worker = &self.state.holder_of(lease).id;
        let message = if timeout == CauseKind::QueueTimeout {
            format!("there was no room on {worker}, where it was to run next")
        } else {
            let profile = self.state.runs[lease.run.0].dag.profile(lease.task);
            let limit = profile.timeouts.start.unwrap_or_default();
            format!("did not start on {worker} within {limit:?}")
        };
        Some(Failure::new(Cause::of(timeout), &message))
    }

    /// Ends the attempt of a lease and decides what happens next.
    pub(crate) fn finish(
        &mut self,
        lease_ix: LeaseIx,
        outcome: Result<Outputs, Failure>,
        usage: Usage,
    ) {
        let outcome = outcome.map_err(|failure| {
            let timeout = self.exceeded_timeout(lease_ix).filter(|_| follows_stop(&failure));
            timeout.unwrap_or(failure)
        });
        let lease = &self.state.leases[lease_ix.0];
        let (run, task) = (lease.run_id, lease.task);
        let then = follow_up(&self.state.runs[lease.run.0], lease, &outcome);
        self.emit(Change::AttemptFinished { run, task, outcome, usage, then });
    }
}

/// Returns whether an attempt that was asked to stop can have failed because of that, or without
/// the task's doing. Otherwise it had already ended by itself.
fn follows_stop(failure: &Failure) -> bool {
    let kind = failure.cause.kind;
    matches!(kind, CauseKind::Cancelled | CauseKind::RunTimeout) || kind.is_infrastructure()
}

/// Decides what happens after an attempt ended with `outcome`.
fn follow_up(run: &Run, lease: &Lease, outcome: &Result<Outputs, Failure>) -> Then {
    let cell = run.cell(lease.task);
    if cell.flags.has(Flags::CANCELLED) {
        return Then::Cancel;
    }
    let Err(failure) = outcome else { return Then::End };
    let profile = run.dag.profile(lease.task);
    let retry = &profile.retry;
    let kind = failure.cause.kind;
    if kind.is_infrastructure() {
        let crashes = u32::from(cell.crashes) + 1;
        let is_poison = crashes >= retry.crash_limit.max(1);
        return if is_poison { Then::End } else { Then::Retry { after: Duration::ZERO } };
    }
    let tries = u32::from(cell.tries) + 1;
    if tries >= retry.max_attempts || !profile.retries(failure) {
        return Then::End;
    }
    let seed = run.id().seed() ^ u64::from(lease.task.0);
    Then::Retry { after: retry.backoff.delay(tries, seed) }
}
