//! Cancels the tasks of a run: all of them, or those that do not handle failures.

use std::sync::Arc;

use kahn_model::{Cause, CauseKind, Dag, TaskIx, TaskState};

use crate::history::RecordKind;
use crate::state::{Flags, RunIx, State};

impl State {
    /// Cancels all tasks that have not ended, except those for which `keep` returns true. Tasks
    /// held by workers end once their workers confirm it.
    pub(super) fn cancel_unfinished(&mut self, ix: RunIx, keep: impl Fn(TaskIx) -> bool) {
        let dag = Arc::clone(&self.runs[ix.0].dag);
        let mut ended = Vec::new();
        for task in dag.tasks().filter(|task| !keep(*task)) {
            let cell = *self.runs[ix.0].cell(task);
            match cell.state {
                TaskState::Ready => {
                    self.leave_ready(ix, task);
                }
                TaskState::BackingOff => {
                    self.runs[ix.0].backoffs.remove(&task);
                }
                TaskState::Pending => {}
                TaskState::Leased | TaskState::Running => {
                    self.runs[ix.0].cell_mut(task).flags.set(Flags::CANCELLED);
                    let token = cell.lease().map(|lease| self.leases[lease.0].token);
                    let id = self.runs[ix.0].id();
                    self.effects.stop.extend(token.map(|token| (id, task, token)));
                    continue;
                }
                _ => continue,
            }
            self.runs[ix.0].set_state(task, TaskState::Cancelled);
            let cause = Some(Cause::of(CauseKind::Cancelled));
            self.record(ix, RecordKind::TaskCancelled, Some(task), cause);
            ended.push(task);
        }
        for task in ended {
            self.propagate(ix, task);
        }
    }

    /// Cancels all tasks that do not handle failures.
    pub(super) fn cancel_non_handlers(&mut self, ix: RunIx) {
        let run = &mut self.runs[ix.0];
        run.is_halted = true;
        let dag = Arc::clone(&run.dag);
        let kept = handlers(&dag);
        self.cancel_unfinished(ix, |task| kept[task.index()]);
    }
}

/// Returns, for each task, whether it handles failures or depends on a task that does.
fn handlers(dag: &Dag) -> Vec<bool> {
    let mut kept = vec![false; dag.n_tasks()];
    for task in dag.topological_order() {
        let follows = dag.dependencies(task).any(|edge| kept[edge.task.index()]);
        kept[task.index()] = follows || dag.is_handler(task);
    }
    kept
}
