//! Applies the start and the end of attempts.

use std::sync::Arc;
use std::time::Duration;

use kahn_model::{CauseKind, Failure, FailurePolicy, Outputs, TaskIx, TaskState, Timestamp, Usage};

use crate::change::Then;
use crate::history::{RecordKind, Spent};
use crate::state::{Flags, Gate, Lease, LeasePhase, RunIx, State, Timer};
use crate::timing::Timing;

impl State {
    pub(super) fn apply_started(&mut self, ix: RunIx, task: TaskIx) {
        let lease_ix = self.runs[ix.0].cell(task).lease().expect("invariant: the task is held");
        self.note_started(lease_ix, self.now);
        self.watch_over(lease_ix);
        let lease = self.leases[lease_ix.0].clone();
        let worker = self.position_of(ix, &lease);
        self.runs[ix.0].set_state(task, TaskState::Running);
        self.record_started(ix, &lease, self.now, worker);
    }

    fn record_started(&mut self, ix: RunIx, lease: &Lease, at: Timestamp, worker: u16) {
        let task = lease.task;
        self.timings.push(Timing::Started { wait: at.since(lease.ready_at) });
        self.record_at(ix, at, RecordKind::TaskStarted, Some(task), worker, None);
        let run = &mut self.runs[ix.0];
        if !run.cell(task).flags.has(Flags::STARTED) {
            run.cell_mut(task).flags.set(Flags::STARTED);
            if run.has_started_dependents {
                self.propagate_started(ix, task);
            }
        }
    }

    fn position_of(&mut self, ix: RunIx, lease: &Lease) -> u16 {
        self.runs[ix.0].worker_position(&self.workers[lease.worker.index()].id)
    }

    pub(super) fn apply_finished(
        &mut self,
        ix: RunIx,
        task: TaskIx,
        outcome: &Result<Outputs, Failure>,
        usage: Usage,
        then: Then,
    ) {
        let lease = self.release(ix, task);
        let worker = self.position_of(ix, &lease);
        let has_run = did_run(&lease, outcome);
        if has_run && lease.phase != LeasePhase::Started {
            // The start and the end arrived in one report: derive the start time from the elapsed
            // time.
            let back = self.now.0.saturating_sub(micros(usage.elapsed));
            let at = Timestamp(back.max(lease.granted_at.0));
            self.record_started(ix, &lease, at, worker);
        }
        if has_run {
            self.time_attempt(&lease, usage.elapsed);
            self.workers[lease.worker.index()].update_pace(usage.elapsed);
        }
        self.note_breaker(ix, &lease, outcome);
        self.count_attempt(ix, task, outcome);
        // The next record is the end of this attempt.
        let run = &mut self.runs[ix.0];
        let record = u32::try_from(run.history.len()).unwrap_or(u32::MAX);
        run.spent.extend(Spent::of(record, usage));
        if let Err(failure) = outcome {
            run.messages.push(record, &failure.message);
        }
        match (then, outcome) {
            (Then::Cancel, _) => {
                self.cancel_task(ix, task);
            }
            (Then::End, Ok(outputs)) => {
                let run = &mut self.runs[ix.0];
                run.failures.remove(&task);
                if !outputs.0.is_empty() {
                    run.outputs.insert(task, Arc::new(outputs.clone()));
                }
                run.set_state(task, TaskState::Succeeded);
                self.record_at(ix, self.now, RecordKind::TaskSucceeded, Some(task), worker, None);
                self.propagate(ix, task);
            }
            (Then::End, Err(failure)) => self.fail_task(ix, task, failure),
            (Then::Retry { after }, outcome) => self.back_off(ix, task, outcome, after, worker),
        }
        self.finish_if_done(ix);
    }

    fn time_attempt(&mut self, lease: &Lease, measured: Duration) {
        let observed = || lease.started_at.map(|at| self.now.since(at)).unwrap_or_default();
        let elapsed = if measured.is_zero() { observed() } else { measured };
        let kind = self.classes.get(lease.class).kind;
        self.timings.push(Timing::Ran { kind, elapsed });
    }

    fn count_attempt(&mut self, ix: RunIx, task: TaskIx, outcome: &Result<Outputs, Failure>) {
        let run = &mut self.runs[ix.0];
        let Err(failure) = outcome else { return };
        let cell = run.cell_mut(task);
        if !failure.cause.kind.is_infrastructure() {
            cell.tries = cell.tries.saturating_add(1);
        } else {
            // Also if no start was reported: an attempt that kills its worker immediately leaves no
            // time to report the start.
            cell.crashes = cell.crashes.saturating_add(1);
        }
        match failure.cause.kind {
            CauseKind::OutOfMemory => run.overruns.entry(task).or_default().memory += 1,
            CauseKind::RunTimeout => run.overruns.entry(task).or_default().time += 1,
            _ => {}
        }
    }

    fn note_breaker(&mut self, ix: RunIx, lease: &Lease, outcome: &Result<Outputs, Failure>) {
        let class = Arc::clone(self.classes.get(lease.class));
        let Some(circuit) = &class.circuit else { return };
        let is_success = match outcome {
            Ok(_) => true,
            Err(failure) if failure.cause.kind.is_infrastructure() => return,
            Err(failure) if failure.cause.kind == CauseKind::Cancelled => return,
            Err(_) => false,
        };
        let key = (self.runs[ix.0].namespace, circuit.key.clone());
        match self.gates.record(&key, circuit, is_success, self.now) {
            Some(until) => self.timers.set(until, Timer::CoolDown(key)),
            None => self.open_gate(&Gate::Breaker(key)),
        }
    }

    fn back_off(
        &mut self,
        ix: RunIx,
        task: TaskIx,
        outcome: &Result<Outputs, Failure>,
        after: Duration,
        worker: u16,
    ) {
        let cause = outcome.as_ref().err().map(|failure| failure.cause);
        self.record_at(ix, self.now, RecordKind::TaskRetried, Some(task), worker, cause);
        let run = &mut self.runs[ix.0];
        if let Err(failure) = outcome {
            run.failures.insert(task, failure.clone());
        }
        if after.is_zero() {
            self.make_ready(ix, task);
            return;
        }
        let until = self.now + after;
        run.set_state(task, TaskState::BackingOff);
        run.backoffs.insert(task, until);
        let id = run.id();
        self.timers.set(until, Timer::Backoff(id, task));
    }

    /// Fails a task that no worker holds, and applies the failure policy of the run.
    pub(super) fn fail_task(&mut self, ix: RunIx, task: TaskIx, failure: &Failure) {
        let run = &mut self.runs[ix.0];
        run.failures.insert(task, failure.clone());
        run.backoffs.remove(&task);
        run.n_failures += 1;
        let cause = Some(failure.cause);
        self.end_task(ix, task, TaskState::Failed, RecordKind::TaskFailed, cause);
        let run = &self.runs[ix.0];
        let is_enough = match run.dag.policy().on_failure {
            FailurePolicy::Continue => false,
            FailurePolicy::FailFast => true,
            FailurePolicy::MaxFailures(n) => run.n_failures >= n,
        };
        if is_enough && !run.is_halted && run.cancelled.is_none() {
            self.cancel_non_handlers(ix);
        }
    }
}

/// Returns whether any part of the attempt was executed.
fn did_run(lease: &Lease, outcome: &Result<Outputs, Failure>) -> bool {
    let never_started = |kind| {
        matches!(
            kind,
            CauseKind::WorkerLost
                | CauseKind::Preempted
                | CauseKind::QueueTimeout
                | CauseKind::StartTimeout
                | CauseKind::Image
                | CauseKind::Cancelled
        )
    };
    lease.phase == LeasePhase::Started
        || !outcome.as_ref().is_err_and(|failure| never_started(failure.cause.kind))
}

pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
