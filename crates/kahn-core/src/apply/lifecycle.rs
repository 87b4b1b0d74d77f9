//! Applies submitting, pausing, resuming, retrying, finishing and removing of runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kahn_model::{
    CauseKind, Dag, Failure, RunId, RunState, TaskIx, TaskState, When, duration, levels,
};

use super::resolve::{Decision, EdgeResult};
use crate::change::{Submission, Verdict};
use crate::history::{Messages, RecordKind};
use crate::state::{Cell, Flags, Gate, Run, RunIx, State, Timer};
use crate::timing::Timing;

impl State {
    pub(super) fn apply_submitted(&mut self, submission: &Arc<Submission>) {
        let dag = Arc::clone(&submission.dag);
        let namespace = self.namespaces.intern(&submission.namespace);
        let n_tasks = u32::try_from(dag.n_tasks()).expect("invariant: limits::TASKS_MAX");
        let mut counts = [0; TaskState::ALL.len()];
        counts[usize::from(TaskState::Pending.number())] = n_tasks;
        let run = Run {
            submission: Arc::clone(submission),
            state: RunState::Active,
            submitted_at: self.now,
            begun_at: self.now,
            finished_at: None,
            cancelled: None,
            is_halted: false,
            n_failures: 0,
            n_held: 0,
            counts,
            history: Vec::new(),
            spent: Vec::new(),
            messages: Messages::default(),
            workers: Vec::new(),
            namespace,
            cells: dag.tasks().map(|task| fresh_cell(&dag, task, 0)).collect(),
            b_levels: b_levels(&dag),
            outputs: BTreeMap::new(),
            failures: BTreeMap::new(),
            rendered: BTreeMap::new(),
            backoffs: BTreeMap::new(),
            overruns: BTreeMap::new(),
            expired: BTreeSet::new(),
            waiting_since: BTreeMap::new(),
            has_started_dependents: dag.has_dependency_when(When::Started),
            classes: BTreeMap::new(),
            lanes: BTreeMap::new(),
            worker_positions: BTreeMap::new(),
            dag: Arc::clone(&dag),
        };
        let ix = RunIx(self.runs.insert(run));
        self.run_ix.insert(submission.run, ix);
        self.record(ix, RecordKind::RunSubmitted, None, None);
        if let Some(timeout) = dag.policy().timeout {
            self.timers.set(self.now + timeout, Timer::Deadline(submission.run));
        }
        // The other tasks are considered when a dependency ends or its timeout expires.
        let is_to_be_seen = |task: &TaskIx| {
            dag.dependencies(*task).len() == 0 || dag.timed_dependencies(*task).next().is_some()
        };
        for task in dag.tasks().filter(is_to_be_seen) {
            self.reconsider(ix, task);
        }
        self.finish_if_done(ix);
    }

    pub(super) fn apply_evaluated(&mut self, ix: RunIx, task: TaskIx, verdict: &Verdict) {
        self.runs[ix.0].cell_mut(task).flags.set(Flags::EVALUATED);
        match verdict {
            Verdict::Run(work) => {
                if let Some(work) = work {
                    self.runs[ix.0].rendered.insert(task, Arc::clone(work));
                }
                self.make_ready(ix, task);
            }
            Verdict::Skip => {
                self.skip_task(ix, task, CauseKind::Condition);
                self.finish_if_done(ix);
            }
            Verdict::Fail(failure) => self.apply_task_failed(ix, task, failure),
        }
    }

    pub(super) fn apply_paused(&mut self, ix: RunIx) {
        self.runs[ix.0].state = RunState::Paused;
        self.record(ix, RecordKind::RunPaused, None, None);
    }

    pub(super) fn apply_resumed(&mut self, ix: RunIx) {
        self.runs[ix.0].state = RunState::Active;
        self.record(ix, RecordKind::RunResumed, None, None);
        self.open_gate(&Gate::Run(ix));
    }

    pub(super) fn apply_cancelled(&mut self, ix: RunIx, failure: &Failure) {
        let run = &mut self.runs[ix.0];
        run.cancelled = Some(failure.clone());
        run.state = RunState::Cancelling;
        self.record(ix, RecordKind::RunCancelling, None, Some(failure.cause));
        self.cancel_unfinished(ix, |_| false);
        self.finish_if_done(ix);
    }

    pub(super) fn apply_retried(&mut self, ix: RunIx, tasks: &[TaskIx]) {
        let run = &mut self.runs[ix.0];
        run.state = RunState::Active;
        run.begun_at = self.now;
        run.finished_at = None;
        run.cancelled = None;
        run.is_halted = false;
        for task in tasks {
            if run.cell(*task).state == TaskState::Failed {
                run.n_failures -= 1;
            }
            run.set_state(*task, TaskState::Pending);
            let attempt = run.cell(*task).attempt;
            *run.cell_mut(*task) = fresh_cell(&run.dag, *task, attempt);
            run.outputs.remove(task);
            run.failures.remove(task);
            run.rendered.remove(task);
            run.overruns.remove(task);
            run.waiting_since.remove(task);
        }
        run.expired.retain(|(dependent, _)| tasks.binary_search(dependent).is_err());
        let timeout = run.dag.policy().timeout;
        let id = run.id();
        self.record(ix, RecordKind::RunRetried, None, None);
        if let Some(timeout) = timeout {
            self.timers.set(self.now + timeout, Timer::Deadline(id));
        }
        // First record all dependencies that have ended, then decide: a decision can affect other
        // tasks.
        for task in tasks {
            self.note_known(ix, *task);
        }
        for task in tasks {
            if self.reconsider(ix, *task) == Decision::Skip {
                self.skip_task(ix, *task, CauseKind::Dependency);
            }
        }
        self.finish_if_done(ix);
    }

    /// Records the results of all dependencies of `task` that have already ended.
    fn note_known(&mut self, ix: RunIx, task: TaskIx) {
        let run = &mut self.runs[ix.0];
        let dag = Arc::clone(&run.dag);
        for dependency in dag.dependencies(task) {
            if let Some(result) = EdgeResult::of(&dependency, run.cell(dependency.task)) {
                run.cell_mut(task).note(result);
            }
        }
    }

    pub(super) fn apply_removed(&mut self, id: RunId) {
        if self.remove_archived(id).is_none() {
            self.drop_run(id);
        }
        self.effects.touch(id);
    }

    /// Removes a finished run from memory.
    pub(super) fn drop_run(&mut self, id: RunId) {
        let ix = self.ix(id);
        self.close_lanes(ix);
        self.run_ix.remove(&id);
        self.runs.remove(ix.0);
    }

    /// Finishes the run if all its tasks have ended.
    pub(super) fn finish_if_done(&mut self, ix: RunIx) {
        let run = &mut self.runs[ix.0];
        if run.state.is_terminal() || usize::try_from(run.n_terminal()) != Ok(run.dag.n_tasks()) {
            return;
        }
        run.state = match &run.cancelled {
            Some(failure) if failure.cause.kind == CauseKind::Cancelled => RunState::Cancelled,
            Some(_) => RunState::Failed,
            None if run.n_failures > 0 => RunState::Failed,
            // Tasks were cancelled earlier and not included in a retry.
            None if run.count(TaskState::Cancelled) > 0 => RunState::Cancelled,
            None => RunState::Succeeded,
        };
        run.finished_at = Some(self.now);
        let elapsed = self.now.since(run.begun_at);
        self.timings.push(Timing::Ended { state: run.state, elapsed });
        let kind = match run.state {
            RunState::Succeeded => RecordKind::RunSucceeded,
            RunState::Cancelled => RecordKind::RunCancelled,
            _ => RecordKind::RunFailed,
        };
        let cause = run.cancelled.as_ref().map(|failure| failure.cause);
        self.record(ix, kind, None, cause);
        self.close_lanes(ix);
    }

    fn close_lanes(&mut self, ix: RunIx) {
        let lanes = std::mem::take(&mut self.runs[ix.0].lanes);
        for lane in lanes.into_values() {
            if let Some(gate) = self.ready.remove_lane(lane) {
                self.gates.forget_lane(&gate, lane);
            }
        }
    }
}

fn fresh_cell(dag: &Dag, task: TaskIx, attempt: u16) -> Cell {
    let n = dag.dependencies(task).len();
    Cell::pending(u32::try_from(n).expect("invariant: limits::TASKS_MAX"), attempt)
}

/// Computes the b-levels. They are estimates: tasks of unknown duration count with the mean of the
/// known durations. So does a task that does nothing, because otherwise a long chain of such tasks
/// would not come before a short one.
pub(crate) fn b_levels(dag: &Dag) -> Vec<u64> {
    let usual = duration::usual(dag);
    levels(dag, |task| dag.estimate(task).unwrap_or(usual)).b_level
}
