//! Checks that the outputs of coordinators are covered by the ledger.

use kahn_core::{Command, Refusal};
use kahn_model::{AttemptId, RunId, Token};
use kahn_worker_core::Outcome;

use super::Oracle;
use crate::driver::View;

impl Oracle {
    /// Checks a command that is about to be carried out.
    pub(crate) fn command_leaves(&mut self, command: &Command) {
        match command {
            Command::Grant { grant, .. } if !self.granted.contains_key(&grant.token) => {
                self.object("I17", format!("{} is sent and not recorded", grant.token));
            }
            Command::Acknowledge { attempt, token, .. } => self.acknowledgement(*attempt, *token),
            _ => {}
        }
    }

    fn acknowledgement(&mut self, attempt: AttemptId, token: Token) {
        if self.current(attempt.run, attempt.task) == Some(token) {
            self.object("I17", format!("{token} is acknowledged and still in force"));
        }
    }

    /// Checks the acknowledgement of a report to a worker.
    pub(crate) fn report_acknowledged(&mut self, token: Token, outcome: &Outcome) {
        self.acknowledged.insert(token, outcome.clone());
    }

    /// Checks the acknowledgement of a submission.
    pub(crate) fn submission_answered(&mut self, run: RunId, answer: &Result<(), Refusal>) {
        match answer {
            Ok(()) if self.shadow.state().summary(run).is_none() => {
                self.object("I17", format!("run {run} is acknowledged and not recorded"));
            }
            Ok(()) => {
                self.submitted.insert(run);
            }
            Err(refusal) => self.object("I6", format!("run {run} is refused: {refusal}")),
        }
    }

    /// Checks the acknowledgement of a cancellation.
    pub(crate) fn cancellation_answered(&mut self, run: RunId, answer: &Result<(), Refusal>) {
        let is_cancelled = self
            .shadow
            .state()
            .summary(run)
            .is_some_and(|run| run.cancelled.is_some() || run.state.is_terminal());
        if answer.is_ok() && !is_cancelled {
            self.object("I17", format!("run {run} is said to be cancelled and is not"));
        }
    }

    /// Checks a view that is sent to a client.
    pub(crate) fn view_leaves(&mut self, view: &View) {
        let state = self.shadow.state();
        let n = state.summary(view.run).map(|run| (run.n_records, run.state));
        let is_there = n.is_some_and(|(n, state)| {
            view.n_records < n || (view.n_records == n && view.state == state)
        });
        if !is_there {
            self.object("I8", format!("{view:?} is shown, {n:?} is recorded"));
        }
    }

    /// Checks a view that has reached a client.
    pub(crate) fn view_seen(&mut self, client: usize, view: &View) {
        let seen = self.seen.entry((client, view.run)).or_default();
        if view.n_records < *seen {
            let message = format!("client {client} saw {seen} records, now {}", view.n_records);
            self.object("I8", message);
            return;
        }
        *seen = view.n_records;
    }
}
