//! The entries that become safe in the logs.

use std::time::Duration;

use kahn_core::{Change, Then};
use kahn_model::{CauseKind, RunId, RunState, TaskIx, TaskState, Timestamp, Token};
use kahn_worker_core::Outcome;

use super::{Ending, Granted, Oracle};
use crate::driver::link;
use crate::store::Entry;

/// The rounding error of converting between clocks.
const ROUNDING: Duration = Duration::from_micros(2);

impl Oracle {
    /// Checks an entry that can no longer be lost, or that is back after a loss.
    pub(crate) fn entry(&mut self, partition: usize, at: usize, entry: &Entry) {
        if let Some(known) = self.ledgers[partition].heads.get(at) {
            if *known != entry.next {
                self.object("I2", format!("entry {known} was replaced by {}", entry.next));
            }
            return;
        }
        self.check_chain(partition, entry);
        let ledger = &mut self.ledgers[partition];
        ledger.head = entry.next;
        ledger.heads.push(entry.next);
        for (at, change) in entry.payload.iter() {
            if self.violation.is_some() {
                return;
            }
            self.check(*at, entry.term.nonce, change);
            self.check_archive(change);
            if self.violation.is_none() {
                self.shadow.replay(*at, change);
                self.check_archive_after(change);
            }
        }
    }

    fn check_chain(&mut self, partition: usize, entry: &Entry) {
        let ledger = &mut self.ledgers[partition];
        let is_next = entry.prev == ledger.head
            && entry.next.seq == ledger.head.seq + 1
            && entry.next.hash == link(ledger.head.hash, &entry.payload);
        let key = (entry.term.epoch, entry.term.nonce);
        let is_new_term = ledger.term != Some(entry.term);
        let is_past_term = is_new_term && !ledger.past_terms.insert(key);
        ledger.term = Some(entry.term);
        let head = ledger.head;
        if !is_next {
            self.object("I10", format!("{} does not follow {head}", entry.next));
        }
        if is_past_term {
            self.object("I9", format!("term {} wrote after another", entry.term));
        }
    }

    fn check(&mut self, at: Timestamp, nonce: u64, change: &Change) {
        let Some(run) = change.run() else { return };
        let state = self.shadow.state().summary(run).map(|run| run.state);
        let is_new = matches!(change, Change::RunSubmitted(_));
        if is_new != state.is_none() {
            self.object("I6", format!("{change}, and it is {state:?}"));
            return;
        }
        match change {
            Change::LeaseGranted { run, task, number, token, worker, boot } => {
                self.check_grant(state, change);
                let attempt = kahn_model::AttemptId { run: *run, task: *task, number: *number };
                let (worker, boot, at) = (worker.clone(), *boot, self.true_time(nonce, at));
                let granted = Granted { attempt, worker, boot, at, ending: None };
                if self.granted.insert(*token, granted).is_some() {
                    self.object("I11", format!("{change}: the token was granted before"));
                }
            }
            Change::LeaseReturned { run, task } => self.check_return(*run, *task),
            Change::AttemptFinished { run, task, outcome, then, .. } => {
                let Some(token) = self.current(*run, *task) else {
                    self.object("I2", format!("{change}: nothing is held"));
                    return;
                };
                self.check_outcome(self.true_time(nonce, at), nonce, token, outcome);
                self.check_follow_up(*run, *task, state, outcome, *then);
            }
            Change::TaskFailed { run, task, .. } | Change::TaskEvaluated { run, task, .. } => {
                self.check_open(*run, *task, change);
            }
            Change::RunRetried { run, tasks } => {
                for task in tasks {
                    self.ended.remove(&(*run, *task));
                    self.losses.remove(&(*run, *task));
                }
            }
            _ => {}
        }
    }

    fn check_grant(&mut self, state: Option<RunState>, change: &Change) {
        let Change::LeaseGranted { run, task, .. } = change else { return };
        if state != Some(RunState::Active) {
            self.object("I7", format!("{change}, and the run is {state:?}"));
        }
        let cell = self.shadow.state().run(*run).map(|known| known.cell(*task).state);
        if cell != Some(TaskState::Ready) {
            self.object("I2", format!("{change}, and the task is {cell:?}"));
        }
    }

    fn check_open(&mut self, run: RunId, task: TaskIx, change: &Change) {
        let cell = self.shadow.state().run(run).map(|known| known.cell(task).state);
        if cell.is_none_or(TaskState::is_terminal) {
            self.object("I2", format!("{change}, and the task is {cell:?}"));
        }
    }

    fn check_return(&mut self, run: RunId, task: TaskIx) {
        let Some(token) = self.current(run, task) else { return };
        if self.executions.contains_key(&token) {
            let message = format!("{run} {task:?} {token} ran and counts as never started");
            self.object("I14", message);
        }
        self.note_ending(token, Ending::Returned);
    }

    fn check_outcome(&mut self, at: Timestamp, nonce: u64, token: Token, outcome: &Outcome) {
        let cause = outcome.as_ref().err().map(|failure| failure.cause.kind);
        let really = self.executions.get(&token).map(|execution| &execution.outcome);
        match cause {
            Some(CauseKind::WorkerLost) => {
                self.check_loss(at, nonce, token);
                self.note_ending(token, Ending::GivenUp);
            }
            Some(CauseKind::StartTimeout) => {
                self.check_start_timeout(at, nonce, token);
                self.check_confirmation(at, nonce, token);
            }
            Some(CauseKind::QueueTimeout) => {
                self.check_queue_timeout(token);
                self.check_confirmation(at, nonce, token);
            }
            _ => {
                // After a takeover, the coordinator knows nothing of a start timeout.
                let was_never_started = really.is_none()
                    && matches!(
                        cause,
                        Some(CauseKind::Cancelled | CauseKind::Preempted | CauseKind::RunTimeout)
                    );
                if really != Some(&Some(outcome.clone())) && !was_never_started {
                    let message = format!("{token}: recorded {outcome:?}, it gave {really:?}");
                    self.object("I12", message);
                }
                self.note_ending(token, Ending::Reported(outcome.clone()));
            }
        }
    }

    /// Checks that a lost worker is dead, or was silent for a whole lease in this term.
    fn check_loss(&mut self, at: Timestamp, nonce: u64, token: Token) {
        if let Some(message) = self.early_loss(at, nonce, token) {
            self.object("I14", message);
        }
    }

    /// Checks that a lease that exceeded a timeout ended only when its execution was over, or when
    /// its worker was lost.
    fn check_confirmation(&mut self, at: Timestamp, nonce: u64, token: Token) {
        let is_running = self.executions.get(&token).is_some_and(|execution| !execution.is_over);
        let ending = match self.early_loss(at, nonce, token) {
            None => Ending::GivenUp,
            Some(_) => Ending::TimedOut,
        };
        if is_running && ending == Ending::TimedOut {
            let message = format!("{token} runs, and counts as ended by its timeout");
            self.object("I14", message);
        }
        self.note_ending(token, ending);
    }

    /// Returns what is wrong unless the worker of a lease is dead, or was silent for a whole lease
    /// in this term.
    fn early_loss(&self, at: Timestamp, nonce: u64, token: Token) -> Option<String> {
        let granted = self.granted.get(&token)?;
        if self.dead.contains(&(granted.worker.clone(), granted.boot)) {
            return None;
        }
        let leadership = self.leaderships.get(&nonce)?;
        let heard = leadership.heard.get(&granted.worker);
        let last = heard.and_then(|times| times.iter().rev().find(|heard| **heard <= at));
        let began_at = leadership.clock.began_at();
        let since = last.copied().unwrap_or(began_at).max(began_at);
        let silence = leadership.clock.elapsed(since, at) + ROUNDING;
        (silence < self.lease_ttl).then(|| {
            format!(
                "{token}: worker {} given up after {silence:?} of silence, in term {}",
                granted.worker, leadership.term,
            )
        })
    }

    /// Checks that the whole start timeout has passed in this term: an earlier report of the start
    /// may have been lost.
    fn check_start_timeout(&mut self, at: Timestamp, nonce: u64, token: Token) {
        let (Some(granted), Some(leadership)) =
            (self.granted.get(&token), self.leaderships.get(&nonce))
        else {
            return;
        };
        let attempt = granted.attempt;
        let Some(run) = self.shadow.state().run(attempt.run) else { return };
        let span = run.dag.profile(attempt.task).timeouts.start.unwrap_or_default();
        let since = granted.at.max(leadership.clock.began_at());
        let waited = leadership.clock.elapsed(since, at) + ROUNDING;
        if waited < span {
            let message = format!("{token}: given {waited:?} of {span:?} to start in this term");
            self.object("I14", message);
        }
    }

    /// Checks that a lease ended by the queue timeout had one.
    fn check_queue_timeout(&mut self, token: Token) {
        let Some(granted) = self.granted.get(&token) else { return };
        let attempt = granted.attempt;
        let Some(run) = self.shadow.state().run(attempt.run) else { return };
        let has_limit = run.dag.profile(attempt.task).timeouts.queue.is_some();
        if !has_limit {
            self.object("I12", format!("{token}: waited too long for room, without a limit"));
        }
    }

    fn check_follow_up(
        &mut self,
        run: RunId,
        task: TaskIx,
        state: Option<RunState>,
        outcome: &Outcome,
        then: Then,
    ) {
        if state == Some(RunState::Cancelling) && then != Then::Cancel {
            let message = format!("{run} {task:?} ends as {outcome:?} in a cancelled run");
            self.object("I7", message);
        }
        if outcome.as_ref().is_err_and(|f| f.cause.kind == CauseKind::WorkerLost) {
            let is_started = self
                .shadow
                .state()
                .run(run)
                .is_some_and(|known| known.cell(task).state == TaskState::Running);
            let losses = self.losses.entry((run, task)).or_default();
            *losses += u32::from(is_started);
            let (n, limit) = (*losses, self.crash_limit(run, task));
            if n > limit {
                self.object("I15", format!("{run} {task:?} was lost {n} times of {limit}"));
            }
        }
        let cause = outcome.as_ref().err().map(|failure| failure.cause.kind);
        if then == Then::End && cause == Some(CauseKind::Cancelled) {
            self.object("I7", format!("{run} {task:?} ends as cancelled, and nobody cancelled it"));
        }
        if then == Then::End {
            self.ended.insert((run, task), outcome.is_ok());
        }
    }

    fn crash_limit(&self, run: RunId, task: TaskIx) -> u32 {
        let run = self.shadow.state().run(run);
        run.map_or(0, |run| run.dag.profile(task).retry.crash_limit.max(1))
    }

    fn note_ending(&mut self, token: Token, ending: Ending) {
        if let Some(granted) = self.granted.get_mut(&token) {
            granted.ending = Some(ending);
        }
    }

    /// Returns the token of the lease of a task, according to safe entries.
    pub(super) fn current(&self, run: RunId, task: TaskIx) -> Option<Token> {
        let state = self.shadow.state();
        let run = state.run(run)?;
        state.lease_of(run, task).map(|lease| lease.token)
    }

    /// Returns the real time at which the coordinator of a term read `at` from its clock.
    fn true_time(&self, nonce: u64, at: Timestamp) -> Timestamp {
        self.leaderships.get(&nonce).map_or(self.now, |leadership| leadership.clock.when(at))
    }
}
