//! Propagates the end or the start of a task to its dependents.

use std::collections::VecDeque;
use std::sync::Arc;

use kahn_model::{
    Cause, CauseKind, DependencyKind, DependencyRef, Failure, TaskIx, TaskState, Trigger, When,
};

use crate::history::RecordKind;
use crate::state::{Cell, Flags, Run, RunIx, State, Timer};

/// The result of a dependency, for the dependent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EdgeResult {
    /// The dependency ended as required.
    Met,
    /// The dependency ended in another way than required.
    Failed,
    /// The dependency was skipped, which is not a failure.
    Skipped,
    /// An optional dependency that was not met, or a soft one: has no effect on the trigger.
    Void,
}

impl EdgeResult {
    /// Returns the result of `edge`, or `None` if the dependency is still unresolved.
    pub(super) fn of(edge: &DependencyRef, dependency: &Cell) -> Option<Self> {
        let strict = Self::strictly(edge.when, dependency)?;
        match edge.kind {
            DependencyKind::Required => Some(strict),
            DependencyKind::Optional if strict == Self::Met => Some(Self::Met),
            DependencyKind::Optional => Some(Self::Void),
            DependencyKind::Soft => dependency.state.is_terminal().then_some(Self::Void),
        }
    }

    fn strictly(when: When, dependency: &Cell) -> Option<Self> {
        if when == When::Started && dependency.flags.has(Flags::STARTED) {
            return Some(Self::Met);
        }
        if !dependency.state.is_terminal() {
            return None;
        }
        Some(match (when, dependency.state) {
            (When::Completed, _)
            | (When::Succeeded, TaskState::Succeeded)
            | (When::Failed, TaskState::Failed) => Self::Met,
            (When::Failed, _) | (_, TaskState::Skipped) => Self::Skipped,
            _ => Self::Failed,
        })
    }
}

impl Cell {
    /// Records the result of one dependency.
    pub(super) fn note(&mut self, result: EdgeResult) {
        self.pending -= 1;
        self.flags.set(match result {
            EdgeResult::Met => Flags::MET,
            EdgeResult::Failed => Flags::FAILED,
            EdgeResult::Skipped => Flags::SKIPPED,
            EdgeResult::Void => 0,
        });
    }
}

/// Counts the unresolved dependencies of `task` from their current states.
pub(crate) fn open_edges(run: &Run, task: TaskIx) -> u32 {
    let n = run.dag.dependencies(task).filter(|edge| is_open(run, task, edge)).count();
    u32::try_from(n).expect("invariant: limits::DEPENDENCIES_MAX")
}

/// Returns whether `task` still waits for the dependency of `edge`.
pub(crate) fn is_open(run: &Run, task: TaskIx, edge: &DependencyRef) -> bool {
    !run.expired.contains(&(task, edge.task)) && EdgeResult::of(edge, run.cell(edge.task)).is_none()
}

/// What to do with a task, given the known results of its dependencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Wait,
    Go,
    Skip,
}

/// Decides by the trigger whether a task runs, waits or is skipped.
pub(crate) fn decide(trigger: Trigger, cell: &Cell, has_dependencies: bool) -> Decision {
    let is_open = cell.pending > 0;
    let (met, failed, skipped) =
        (cell.flags.has(Flags::MET), cell.flags.has(Flags::FAILED), cell.flags.has(Flags::SKIPPED));
    if !is_open && !met && !failed && !skipped {
        // All dependencies ended without an effect. Only `AnyFailed` cannot be satisfied then.
        let is_in_vain = has_dependencies && trigger == Trigger::AnyFailed;
        return if is_in_vain { Decision::Skip } else { Decision::Go };
    }
    let (go, skip) = match trigger {
        Trigger::AllSucceeded => (!is_open, failed || skipped),
        Trigger::AllDone => (!is_open, false),
        Trigger::AnySucceeded => (met, !is_open && !met),
        Trigger::AnyFailed => (failed, !is_open && !failed),
        Trigger::NoneFailed => (!is_open, failed),
    };
    if skip {
        Decision::Skip
    } else if go {
        Decision::Go
    } else {
        Decision::Wait
    }
}

impl State {
    /// Ends a task and propagates the end to its dependents.
    pub(super) fn end_task(
        &mut self,
        ix: RunIx,
        task: TaskIx,
        state: TaskState,
        kind: RecordKind,
        cause: Option<Cause>,
    ) {
        self.runs[ix.0].set_state(task, state);
        self.record(ix, kind, Some(task), cause);
        self.propagate(ix, task);
    }

    /// Skips a task, and all dependents that require it.
    pub(super) fn skip_task(&mut self, ix: RunIx, task: TaskIx, cause: CauseKind) {
        let cause = Some(Cause::of(cause));
        self.end_task(ix, task, TaskState::Skipped, RecordKind::TaskSkipped, cause);
    }

    /// Cancels a task that no worker holds.
    pub(super) fn cancel_task(&mut self, ix: RunIx, task: TaskIx) {
        let cause = Some(Cause::of(CauseKind::Cancelled));
        self.end_task(ix, task, TaskState::Cancelled, RecordKind::TaskCancelled, cause);
    }

    /// Propagates the end of `task`. Skipped dependents end as well, and so on; this uses a queue
    /// instead of recursion, since chains can be long.
    pub(super) fn propagate(&mut self, ix: RunIx, task: TaskIx) {
        let dag = Arc::clone(&self.runs[ix.0].dag);
        let mut ended = VecDeque::from([task]);
        while let Some(task) = ended.pop_front() {
            for edge in dag.dependents(task) {
                if self.resolve(ix, task, &edge) {
                    let run = &mut self.runs[ix.0];
                    run.set_state(edge.task, TaskState::Skipped);
                    let cause = Cause::of(CauseKind::Dependency);
                    self.record(ix, RecordKind::TaskSkipped, Some(edge.task), Some(cause));
                    ended.push_back(edge.task);
                }
            }
        }
    }

    /// Propagates the start of the first attempt of `task`.
    pub(super) fn propagate_started(&mut self, ix: RunIx, task: TaskIx) {
        let dag = Arc::clone(&self.runs[ix.0].dag);
        for edge in dag.dependents(task).filter(|edge| edge.when == When::Started) {
            if self.resolve(ix, task, &edge) {
                self.skip_task(ix, edge.task, CauseKind::Dependency);
            }
        }
    }

    /// Records the result of `dependency` for the dependent of `edge`, if there is a new one.
    /// Returns whether the dependent must be skipped.
    fn resolve(&mut self, ix: RunIx, dependency: TaskIx, edge: &DependencyRef) -> bool {
        let run = &mut self.runs[ix.0];
        let source = *run.cell(dependency);
        let Some(result) = EdgeResult::of(edge, &source) else { return false };
        // An edge that requires only the start was resolved at the start, unless it is a soft one.
        let is_resolved_at_start = edge.when == When::Started
            && edge.kind != DependencyKind::Soft
            && source.flags.has(Flags::STARTED)
            && source.state.is_terminal();
        let is_expired = edge.is_timed && run.expired.contains(&(edge.task, dependency));
        // Dependents that have been decided on are not considered again.
        let is_decided = run.cell(edge.task).state != TaskState::Pending;
        if is_resolved_at_start || is_expired || is_decided {
            return false;
        }
        run.cell_mut(edge.task).note(result);
        self.reconsider(ix, edge.task) == Decision::Skip
    }

    /// Decides on a pending task again. The caller must carry out a decision to skip it.
    pub(super) fn reconsider(&mut self, ix: RunIx, task: TaskIx) -> Decision {
        let run = &self.runs[ix.0];
        let cell = run.cell(task);
        let is_decided = cell.flags.has(Flags::EVALUATED | Flags::EVALUATING);
        if cell.state != TaskState::Pending || is_decided {
            return Decision::Wait;
        }
        let has_dependencies = run.dag.dependencies(task).len() > 0;
        let decision = decide(run.dag.trigger(task), cell, has_dependencies);
        match decision {
            Decision::Go => self.go(ix, task),
            Decision::Wait => self.start_dependency_clocks(ix, task),
            Decision::Skip => {}
        }
        decision
    }

    fn go(&mut self, ix: RunIx, task: TaskIx) {
        let run = &mut self.runs[ix.0];
        run.waiting_since.remove(&task);
        if run.dag.condition(task).is_some() || run.dag.work(task).is_dynamic() {
            run.cell_mut(task).flags.set(Flags::EVALUATING);
            let id = run.id();
            self.effects.evaluate.push((id, task));
        } else {
            self.make_ready(ix, task);
        }
    }

    /// Starts the timeouts of timed dependencies once `task` waits for nothing else.
    fn start_dependency_clocks(&mut self, ix: RunIx, task: TaskIx) {
        let run = &mut self.runs[ix.0];
        // Few dependencies have a timeout, and this runs at the end of every dependency.
        let n_timed = run.dag.timed_dependencies(task).count();
        let has_others = usize::try_from(run.cell(task).pending).is_ok_and(|n| n > n_timed);
        if has_others || run.waiting_since.contains_key(&task) {
            return;
        }
        let open: Vec<_> = run
            .dag
            .dependencies(task)
            .filter(|edge| edge.is_timed && is_open(run, task, edge))
            .map(|edge| edge.task)
            .collect();
        if open.is_empty() || usize::try_from(run.cell(task).pending) != Ok(open.len()) {
            return;
        }
        let (id, dag) = (run.id(), Arc::clone(&run.dag));
        run.waiting_since.insert(task, self.now);
        for dependency in open {
            if let Some(timeout) = dag.dependency_timeout(task, dependency) {
                self.timers.set(self.now + timeout, Timer::Dependency(id, task, dependency));
            }
        }
    }

    pub(super) fn apply_dependency_expired(
        &mut self,
        ix: RunIx,
        dependent: TaskIx,
        dependency: TaskIx,
    ) {
        let run = &mut self.runs[ix.0];
        run.expired.insert((dependent, dependency));
        let is_required = run
            .dag
            .dependencies(dependent)
            .any(|edge| edge.task == dependency && edge.kind == DependencyKind::Required);
        let result = if is_required { EdgeResult::Failed } else { EdgeResult::Void };
        run.cell_mut(dependent).note(result);
        if self.reconsider(ix, dependent) == Decision::Skip {
            self.skip_task(ix, dependent, CauseKind::Dependency);
            self.finish_if_done(ix);
        }
    }

    pub(super) fn apply_task_failed(&mut self, ix: RunIx, task: TaskIx, failure: &Failure) {
        if self.runs[ix.0].cell(task).state == TaskState::Ready {
            self.leave_ready(ix, task);
        }
        self.fail_task(ix, task, failure);
        self.finish_if_done(ix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggers_decide_by_what_is_known() {
        let cell = |pending, flags| {
            let mut cell = Cell::pending(pending, 0);
            cell.flags = Flags(flags);
            cell
        };
        let (met, failed, skipped) = (Flags::MET, Flags::FAILED, Flags::SKIPPED);
        for (trigger, pending, flags, expected) in [
            (Trigger::AllSucceeded, 0, 0, Decision::Go),
            (Trigger::AllSucceeded, 1, met, Decision::Wait),
            (Trigger::AllSucceeded, 1, failed, Decision::Skip),
            (Trigger::AllSucceeded, 0, met, Decision::Go),
            (Trigger::AllSucceeded, 0, met | skipped, Decision::Skip),
            (Trigger::AllDone, 1, failed, Decision::Wait),
            (Trigger::AllDone, 0, met | failed | skipped, Decision::Go),
            (Trigger::AnySucceeded, 2, met | failed, Decision::Go),
            (Trigger::AnySucceeded, 1, failed, Decision::Wait),
            (Trigger::AnySucceeded, 0, failed | skipped, Decision::Skip),
            (Trigger::AnyFailed, 3, failed, Decision::Go),
            (Trigger::AnyFailed, 1, met, Decision::Wait),
            (Trigger::AnyFailed, 0, met, Decision::Skip),
            (Trigger::AnyFailed, 0, 0, Decision::Skip),
            (Trigger::AnySucceeded, 0, 0, Decision::Go),
            (Trigger::NoneFailed, 0, met | skipped, Decision::Go),
            (Trigger::NoneFailed, 2, failed, Decision::Skip),
            (Trigger::NoneFailed, 1, skipped, Decision::Wait),
        ] {
            let found = decide(trigger, &cell(pending, flags), true);
            assert_eq!(found, expected, "{trigger:?} with {pending} pending and {flags:b}");
        }
    }
}
