//! Formats changes and commands for tests, with the names of tasks and runs.

use std::fmt::Write as _;

use kahn_model::{AttemptId, Outputs, RunId, TaskIx};

use super::world::World;
use crate::change::{Change, Then, Verdict};
use crate::command::Command;
use crate::event::SessionId;

impl World {
    /// Returns `r1` for the first run, and so on.
    fn run_label(run: RunId) -> String {
        let number = run.as_bytes().iter().fold(0u128, |n, byte| (n << 8) | u128::from(*byte));
        format!("r{number}")
    }

    /// Returns `r1/a` for the task `a` of the first run.
    #[must_use]
    pub fn label(&self, run: RunId, task: TaskIx) -> String {
        let label = Self::run_label(run);
        match self.core.state().run(run) {
            Some(known) => format!("{label}/{}", known.dag.task_name(task)),
            None => format!("{label}/{task:?}"),
        }
    }

    fn attempt_label(&self, attempt: AttemptId) -> String {
        format!("{}#{}", self.label(attempt.run, attempt.task), attempt.number)
    }

    fn session_label(&self, session: SessionId) -> String {
        let found = self.workers.iter().find(|(_, worker)| worker.session == Some(session));
        found.map_or_else(|| format!("stream {}", session.0), |(name, _)| name.clone())
    }

    /// Formats a change as one line.
    #[must_use]
    pub fn describe_change(&self, change: &Change) -> String {
        let Some(id) = change.run() else { return change.to_string() };
        let run = Self::run_label(id);
        let of = |task: &TaskIx| self.label(id, *task);
        match change {
            Change::RunSubmitted(submission) => {
                format!("{run} submitted for {}", submission.namespace)
            }
            Change::TaskEvaluated { task, verdict, .. } => {
                let verdict = match verdict {
                    Verdict::Run(None) => "run".to_owned(),
                    Verdict::Run(Some(_)) => "run, rendered".to_owned(),
                    Verdict::Skip => "skip".to_owned(),
                    Verdict::Fail(failure) => format!("fail, {failure}"),
                };
                format!("{} evaluated: {verdict}", of(task))
            }
            Change::DependencyExpired { dependent, dependency, .. } => {
                format!("{} waits no longer for {}", of(dependent), of(dependency))
            }
            Change::LeaseGranted { task, number, token, worker, .. } => {
                format!("{}#{number} leased to {worker} as {token}", of(task))
            }
            Change::LeaseReturned { task, .. } => format!("{} returned", of(task)),
            Change::AttemptStarted { task, .. } => format!("{} started", of(task)),
            Change::AttemptFinished { task, outcome, then, .. } => {
                let outcome = match outcome {
                    Ok(outputs) => describe_outputs(outputs),
                    Err(failure) => failure.to_string(),
                };
                format!("{} finished: {outcome}; then {}", of(task), describe_then(*then))
            }
            Change::BackoffEnded { task, .. } => format!("{} has backed off", of(task)),
            Change::TaskFailed { task, failure, .. } => format!("{} failed: {failure}", of(task)),
            Change::WorkerLost { worker, .. } => format!("{run} lost worker {worker}"),
            Change::RunCancelled { failure, .. } => format!("{run} cancelled: {failure}"),
            Change::RunPaused { .. } => format!("{run} paused"),
            Change::RunResumed { .. } => format!("{run} resumed"),
            Change::RunRetried { tasks, .. } => {
                let names: Vec<_> = tasks.iter().map(of).collect();
                format!("{run} retried: {}", names.join(" "))
            }
            Change::RunRemoved { .. } => format!("{run} removed"),
            Change::RunArchived { archive, .. } => {
                format!("{run} archived with {} bytes", archive.bytes)
            }
            Change::RunRestored(_) => format!("{run} restored"),
            Change::WorkerCordoned { .. } => change.to_string(),
        }
    }

    /// Formats a command as one line.
    #[must_use]
    pub fn describe_command(&self, command: &Command) -> String {
        match command {
            Command::Grant { session, grant } => {
                let mut line = format!(
                    "grant {} to {}",
                    self.attempt_label(grant.attempt),
                    self.session_label(*session)
                );
                if !grant.resources.is_none() {
                    write!(line, " with {}", grant.resources).expect("invariant: a string");
                }
                line
            }
            Command::Stop { session, attempt, reason, .. } => format!(
                "stop {} on {}: {reason:?}",
                self.attempt_label(*attempt),
                self.session_label(*session)
            ),
            Command::Recall { session, attempt, .. } => format!(
                "recall {} from {}",
                self.attempt_label(*attempt),
                self.session_label(*session)
            ),
            Command::Acknowledge { session, attempt, .. } => format!(
                "acknowledge {} to {}",
                self.attempt_label(*attempt),
                self.session_label(*session)
            ),
            Command::Welcome { session } => format!("welcome {}", self.session_label(*session)),
            Command::Disconnect { session } => {
                format!("disconnect {}", self.session_label(*session))
            }
            Command::Drain { session } => format!("drain {}", self.session_label(*session)),
            Command::Evaluate { run, task } => format!("evaluate {}", self.label(*run, *task)),
            Command::Notify { run } => format!("notify {}", Self::run_label(*run)),
        }
    }
}

fn describe_outputs(outputs: &Outputs) -> String {
    let mut out = "ok".to_owned();
    for (key, value) in &outputs.0 {
        write!(out, " {key}={}", value.as_json()).expect("invariant: a string");
    }
    out
}

fn describe_then(then: Then) -> String {
    match then {
        Then::End => "end".to_owned(),
        Then::Retry { after } if after.is_zero() => "retry at once".to_owned(),
        Then::Retry { after } => format!("retry after {after:?}"),
        Then::Cancel => "cancel".to_owned(),
    }
}
