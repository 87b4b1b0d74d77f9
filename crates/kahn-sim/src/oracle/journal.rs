//! The journal of actual executions.

use std::sync::Arc;

use kahn_model::{
    AttemptId, BootId, DependencyKind, OnDisconnect, Resources, Token, Trigger, When, WorkerId,
};
use kahn_worker_core::Outcome;

use super::{Ending, Execution, Oracle};

/// The start of an execution.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) token: Token,
    pub(crate) attempt: AttemptId,
    pub(crate) worker: &'a WorkerId,
    pub(crate) boot: BootId,
    pub(crate) resources: &'a Arc<Resources>,
    pub(crate) capacity: &'a Resources,
    pub(crate) on_disconnect: OnDisconnect,
}

impl Oracle {
    pub(crate) fn started(&mut self, start: &Start<'_>) {
        self.check_right(start);
        self.check_dependencies(start);
        self.check_room(start);
        self.check_overlap(start);
        let execution = Execution {
            worker: start.worker.clone(),
            boot: start.boot,
            resources: Resources::clone(start.resources),
            outcome: None,
            is_over: false,
        };
        if self.executions.insert(start.token, execution).is_some() {
            self.object("I2", format!("{} was carried out twice", start.token));
        }
        if let Some(other) = self.by_attempt.insert(start.attempt, start.token) {
            let message = format!("{:?} runs as {} and as {other}", start.attempt, start.token);
            self.object("I2", message);
        }
        let task = (start.attempt.run, start.attempt.task);
        self.by_task.entry(task).or_default().push(start.token);
    }

    /// Records that an execution has ended completely.
    pub(crate) fn finished(&mut self, token: Token, outcome: &Outcome) {
        if let Some(execution) = self.executions.get_mut(&token) {
            execution.outcome = Some(outcome.clone());
            execution.is_over = true;
        }
    }

    /// Checks that the execution was granted durably, and to this worker.
    fn check_right(&mut self, start: &Start<'_>) {
        let Some(granted) = self.granted.get(&start.token) else {
            self.object("I17", format!("{} runs and was never granted", start.token));
            return;
        };
        let is_theirs = granted.attempt == start.attempt
            && granted.worker == *start.worker
            && granted.boot == start.boot;
        let is_over = matches!(granted.ending, Some(Ending::Returned | Ending::TimedOut));
        if !is_theirs {
            self.object("I17", format!("{} runs on {}", start.token, start.worker));
        }
        if is_over {
            self.object("I14", format!("{} runs after it was given back", start.token));
        }
    }

    fn check_dependencies(&mut self, start: &Start<'_>) {
        let AttemptId { run: id, task, .. } = start.attempt;
        if self.current(id, task) != Some(start.token) {
            return;
        }
        let Some(run) = self.shadow.state().run(id) else { return };
        if !matches!(run.dag.trigger(task), Trigger::AllSucceeded | Trigger::AllDone) {
            return;
        }
        let needs_success = run.dag.trigger(task) == Trigger::AllSucceeded;
        let mut missing = None;
        for edge in run.dag.dependencies(task).filter(|edge| !edge.is_timed) {
            let state = run.cell(edge.task).state;
            let is_met = match (edge.kind, edge.when) {
                (DependencyKind::Required, When::Succeeded) if needs_success => {
                    self.ended.get(&(id, edge.task)) == Some(&true)
                }
                (_, When::Started) if edge.kind != DependencyKind::Soft => true,
                _ => state.is_terminal(),
            };
            if !is_met {
                missing = Some((edge.task, state));
            }
        }
        if let Some((dependency, state)) = missing {
            let message = format!("{:?} starts, {dependency:?} is {state}", start.attempt);
            self.object("I4", message);
        }
    }

    fn check_room(&mut self, start: &Start<'_>) {
        let mut used = Resources::clone(start.resources);
        let here = |one: &&Execution| {
            !one.is_over && one.boot == start.boot && one.worker == *start.worker
        };
        for execution in self.executions.values().filter(here) {
            used.add(&execution.resources);
        }
        if !used.fits(start.capacity) {
            let message = format!("{} runs {used} of {}", start.worker, start.capacity);
            self.object("I13", message);
        }
    }

    /// Checks the start of an attempt while another execution of the same task is alive. This is
    /// allowed only if the earlier lease was correctly given up, and never if the earlier execution
    /// should already have been stopped.
    fn check_overlap(&mut self, start: &Start<'_>) {
        let task = (start.attempt.run, start.attempt.task);
        let others = self.by_task.get(&task).cloned().unwrap_or_default();
        for other in others {
            let (Some(execution), Some(granted)) =
                (self.executions.get(&other), self.granted.get(&other))
            else {
                continue;
            };
            if execution.is_over {
                continue;
            }
            let was_given_up = granted.ending == Some(Ending::GivenUp)
                || self
                    .granted
                    .get(&start.token)
                    .is_some_and(|mine| mine.ending == Some(Ending::GivenUp));
            let since = granted.at;
            let is_suspended =
                |worker| self.suspended_until.get(worker).is_some_and(|until| since <= *until);
            let was_suspended = is_suspended(&execution.worker) || is_suspended(start.worker);
            let is_fenced = start.on_disconnect == OnDisconnect::Stop;
            let message = format!(
                "{:?} starts on {} as {} while {other} runs on {}",
                start.attempt, start.worker, start.token, execution.worker
            );
            if !was_given_up || (is_fenced && !was_suspended) {
                self.object("I14", message);
            }
        }
    }
}
