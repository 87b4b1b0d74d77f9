//! Handles requests to cancel, pause, resume, retry and remove runs.

use std::collections::BTreeSet;

use kahn_model::{Cause, CauseKind, Failure, RunId, RunState, TaskIx, TaskState};

use crate::change::Change;
use crate::core::Core;
use crate::event::RetryScope;
use crate::refusal::Refusal;
use crate::state::Run;

impl Core {
    pub(crate) fn on_cancel_requested(&mut self, run: RunId, reason: &str) -> Result<(), Refusal> {
        let state = self.run_state_or_refuse(run)?;
        match state {
            RunState::Cancelling => return Ok(()),
            RunState::Active | RunState::Paused => {}
            RunState::Succeeded | RunState::Failed | RunState::Cancelled => {
                return Err(Refusal::WrongState { run, state, advice: "it has ended already" });
            }
        }
        let failure = Failure::new(Cause::of(CauseKind::Cancelled), reason);
        self.emit(Change::RunCancelled { run, failure });
        Ok(())
    }

    pub(crate) fn on_pause_requested(&mut self, run: RunId) -> Result<(), Refusal> {
        match self.run_state_or_refuse(run)? {
            RunState::Paused => Ok(()),
            RunState::Active => {
                self.emit(Change::RunPaused { run });
                Ok(())
            }
            state => {
                Err(Refusal::WrongState { run, state, advice: "only an active run can be paused" })
            }
        }
    }

    pub(crate) fn on_resume_requested(&mut self, run: RunId) -> Result<(), Refusal> {
        match self.run_state_or_refuse(run)? {
            RunState::Active => Ok(()),
            RunState::Paused => {
                self.emit(Change::RunResumed { run });
                Ok(())
            }
            state => Err(Refusal::WrongState {
                run,
                state,
                advice: "only a paused run can be resumed; a finished one can be retried",
            }),
        }
    }

    pub(crate) fn on_retry_requested(
        &mut self,
        run: RunId,
        scope: RetryScope,
    ) -> Result<(), Refusal> {
        let known = self.run_or_refuse(run)?;
        if !known.state.is_terminal() {
            let advice = "only a finished run can be retried; cancel it first";
            return Err(Refusal::WrongState { run, state: known.state, advice });
        }
        check_tasks(known, &scope)?;
        let tasks = match scope {
            RetryScope::Failed => failed_and_behind(known),
            RetryScope::From(tasks) => with_dependents(known, tasks),
            RetryScope::Only(tasks) => tasks.into_iter().collect(),
        };
        if tasks.is_empty() {
            let advice = "all its tasks succeeded; name the tasks to run again";
            return Err(Refusal::NothingToRetry { run, advice });
        }
        self.emit(Change::RunRetried { run, tasks: tasks.into_iter().collect() });
        Ok(())
    }

    pub(crate) fn on_run_expired(&mut self, run: RunId) -> Result<(), Refusal> {
        let state = self.run_state_or_refuse(run)?;
        if !state.is_terminal() {
            let advice = "only a finished run can be removed; cancel it first";
            return Err(Refusal::WrongState { run, state, advice });
        }
        self.emit(Change::RunRemoved { run });
        Ok(())
    }
}

fn check_tasks(run: &Run, scope: &RetryScope) -> Result<(), Refusal> {
    let tasks = match scope {
        RetryScope::Failed => return Ok(()),
        RetryScope::From(tasks) | RetryScope::Only(tasks) => tasks,
    };
    match tasks.iter().find(|task| !run.dag.contains(**task)) {
        Some(unknown) => Err(Refusal::UnknownTask { run: run.id(), task: format!("{unknown:?}") }),
        None => Ok(()),
    }
}

fn failed_and_behind(run: &Run) -> BTreeSet<TaskIx> {
    let unhappy =
        |task: &TaskIx| matches!(run.cell(*task).state, TaskState::Failed | TaskState::Cancelled);
    let mut tasks = with_dependents(run, run.dag.tasks().filter(unhappy).collect());
    // Tasks that succeeded before the failure reached them keep their outcome.
    tasks.retain(|task| run.cell(*task).state != TaskState::Succeeded);
    tasks
}

/// Returns the tasks and all their direct and indirect dependents.
fn with_dependents(run: &Run, tasks: Vec<TaskIx>) -> BTreeSet<TaskIx> {
    let mut found: BTreeSet<TaskIx> = tasks.iter().copied().collect();
    let mut open = tasks;
    while let Some(task) = open.pop() {
        for edge in run.dag.dependents(task) {
            if found.insert(edge.task) {
                open.push(edge.task);
            }
        }
    }
    found
}
