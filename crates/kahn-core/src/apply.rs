//! Applies changes; the only place where durable state is modified.
//!
//! Both live handling and recovery call [`State::apply`], so replaying a log produces the same
//! state as handling the original events. Deterministic consequences of a change, such as a
//! dependent becoming ready or a run ending, are computed here and not recorded.

mod archive;
mod attempt;
mod cancel;
mod lease;
mod lifecycle;
mod readiness;
mod resolve;

pub(crate) use lifecycle::b_levels;
pub(crate) use readiness::{class_of_first_attempt, rank};
pub(crate) use resolve::{is_open, open_edges};

use kahn_model::{Cause, RunId, TaskIx, Timestamp, WorkerId};

use crate::change::Change;
use crate::history::{Record, RecordKind};
use crate::state::{RunIx, State};

impl State {
    /// Applies a change that was decided at `at`.
    ///
    /// # Panics
    ///
    /// Panics if the change contradicts the state, which means that another program wrote the log.
    pub(crate) fn apply(&mut self, at: Timestamp, change: &Change) {
        // Not the maximum: partitions are replayed one after the other, each with its own times.
        self.now = at;
        match change {
            Change::RunSubmitted(submission) => self.apply_submitted(submission),
            Change::TaskEvaluated { run, task, verdict } => {
                self.apply_evaluated(self.ix(*run), *task, verdict);
            }
            Change::DependencyExpired { run, dependent, dependency } => {
                self.apply_dependency_expired(self.ix(*run), *dependent, *dependency);
            }
            Change::LeaseGranted { run, task, number, token, worker, boot } => {
                let worker = self.worker_or_unknown(worker, *boot);
                self.apply_granted(self.ix(*run), *task, *number, *token, worker, *boot);
            }
            Change::LeaseReturned { run, task } => self.apply_returned(self.ix(*run), *task),
            Change::AttemptStarted { run, task } => self.apply_started(self.ix(*run), *task),
            Change::AttemptFinished { run, task, outcome, usage, then } => {
                self.apply_finished(self.ix(*run), *task, outcome, *usage, *then);
            }
            Change::BackoffEnded { run, task } => {
                let ix = self.ix(*run);
                self.runs[ix.0].backoffs.remove(task);
                self.make_ready(ix, *task);
            }
            Change::TaskFailed { run, task, failure } => {
                self.apply_task_failed(self.ix(*run), *task, failure);
            }
            Change::WorkerLost { run, worker } => {
                self.record_worker(self.ix(*run), RecordKind::WorkerLost, worker);
            }
            Change::RunCancelled { run, failure } => self.apply_cancelled(self.ix(*run), failure),
            Change::RunPaused { run } => self.apply_paused(self.ix(*run)),
            Change::RunResumed { run } => self.apply_resumed(self.ix(*run)),
            Change::RunRetried { run, tasks } => self.apply_retried(self.ix(*run), tasks),
            Change::RunRemoved { run } => self.apply_removed(*run),
            Change::RunArchived { run, archive } => self.apply_archived(*run, *archive),
            Change::RunRestored(snapshot) => self.apply_restored(snapshot),
            Change::WorkerCordoned { worker, is_cordoned } => {
                self.set_cordoned(worker, *is_cordoned);
            }
        }
    }

    fn ix(&self, run: RunId) -> RunIx {
        *self.run_ix.get(&run).expect("invariant: changes speak of known runs")
    }

    /// Appends a record to the history of a run.
    fn record(&mut self, ix: RunIx, kind: RecordKind, task: Option<TaskIx>, cause: Option<Cause>) {
        self.record_at(ix, self.now, kind, task, 0, cause);
    }

    fn record_worker(&mut self, ix: RunIx, kind: RecordKind, worker: &WorkerId) {
        let position = self.runs[ix.0].worker_position(worker);
        self.record_at(ix, self.now, kind, None, position, None);
    }

    fn record_at(
        &mut self,
        ix: RunIx,
        at: Timestamp,
        kind: RecordKind,
        task: Option<TaskIx>,
        worker: u16,
        cause: Option<Cause>,
    ) {
        let run = &mut self.runs[ix.0];
        run.history.push(Record {
            at,
            code: cause.map_or(0, |cause| cause.code),
            task: task.map_or(Record::NO_TASK, |task| task.0),
            attempt: task.map_or(0, |task| run.cells[task.index()].attempt),
            worker,
            kind,
            cause: cause.map(|cause| cause.kind),
        });
        self.effects.touch(run.submission.run);
    }
}
