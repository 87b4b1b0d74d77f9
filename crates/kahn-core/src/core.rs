//! The coordinator's state machine: dispatches every event to its handler.

use kahn_model::{RunId, RunState, Timestamp};

use crate::change::Change;
use crate::command::Command;
use crate::event::Event;
use crate::log::Term;
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::state::{Effects, State};
use crate::timing::Timing;

/// The result of one event: the changes that it made and the commands to carry out.
#[derive(Debug, Default)]
pub struct Step {
    /// Changes to make durable, in this order.
    pub changes: Vec<Change>,
    /// Commands to carry out, in this order, once `changes` and all earlier changes are durable.
    pub commands: Vec<Command>,
}

/// The coordinator's state machine.
///
/// A new core is first given its past ([`Core::restore`], [`Core::replay`]), and then starts a term
/// with [`Core::begin`]. After that, pass each event to [`Core::handle`], call [`Core::place`]
/// after each batch of events, and send [`Event::DeadlineReached`] at the time that
/// [`Core::next_deadline`] returns.
#[derive(Debug)]
pub struct Core {
    pub(crate) state: State,
    pub(crate) step: Step,
    term: Term,
    next_serial: u64,
}

impl Core {
    /// Creates a core without any runs.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            state: State::new(settings),
            step: Step::default(),
            term: Term { epoch: 0, nonce: 0 },
            next_serial: 0,
        }
    }

    /// Loads a checkpoint. Must be called before [`Core::begin`].
    pub fn restore(&mut self, snapshot: Snapshot) {
        self.state.restore(snapshot);
    }

    /// Replays a durable change that was decided at `at`. Must be called before [`Core::begin`].
    pub fn replay(&mut self, at: Timestamp, change: &Change) {
        self.state.apply(at, change);
        // All of this is determined anew when a term begins. A standby replays for a long time.
        self.state.timings.clear();
        self.state.timers.clear();
        self.state.effects = Effects::default();
    }

    /// Begins a term at `now`. All leases are renewed for their full duration, and unanswered
    /// evaluations are requested again.
    pub fn begin(&mut self, now: Timestamp, term: Term) -> Step {
        self.term = term;
        self.next_serial = 0;
        self.start_step(now);
        self.resume_after_takeover();
        std::mem::take(&mut self.step)
    }

    /// Handles one event at `now`.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] if the request is not possible. The state is then unchanged.
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Result<Step, Refusal> {
        self.start_step(now);
        match event {
            Event::Submitted(submission) => self.on_submitted(submission)?,
            Event::CancelRequested { run, reason } => self.on_cancel_requested(run, &reason)?,
            Event::PauseRequested { run } => self.on_pause_requested(run)?,
            Event::ResumeRequested { run } => self.on_resume_requested(run)?,
            Event::RetryRequested { run, scope } => self.on_retry_requested(run, scope)?,
            Event::RunExpired { run } => self.on_run_expired(run)?,
            Event::RunStored { run, n_records, finished_at, archive } => {
                self.on_run_stored(run, (n_records, finished_at), archive)?;
            }
            Event::RunFetched(snapshot) => self.on_run_fetched(snapshot)?,
            Event::Evaluated { run, task, outcome } => self.on_evaluated(run, task, outcome),
            Event::WorkerAttached(attachment) => self.on_worker_attached(*attachment),
            Event::WorkerDetached { session } => self.on_worker_detached(session),
            Event::Heartbeat { session } => self.on_heartbeat(session)?,
            Event::Reported { session, report } => self.on_reported(session, *report)?,
            Event::DrainStarted { session } => self.on_drain_started(session)?,
            Event::AdmissionChanged { session, admission } => {
                self.on_admission_changed(session, admission)?;
            }
            Event::CordonRequested { worker, is_cordoned } => {
                self.on_cordon_requested(&worker, is_cordoned)?;
            }
            Event::DrainRequested { worker } => self.on_drain_requested(&worker)?,
            Event::DeadlineReached => self.on_deadline_reached(),
        }
        Ok(self.take_step())
    }

    /// Grants leases as long as workers have room. Call this after each batch of events.
    ///
    /// Grants at most [`Settings::grants_per_pass`] leases; [`Core::has_more_to_place`] then
    /// returns true.
    pub fn place(&mut self, now: Timestamp) -> Step {
        self.start_step(now);
        self.schedule();
        self.take_step()
    }

    /// Returns when to send [`Event::DeadlineReached`] next, or `None` if no timer is set.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.state.timers.next()
    }

    /// Returns the spans of time that ended with the latest step.
    #[must_use]
    pub fn timings(&self) -> &[Timing] {
        &self.state.timings
    }

    /// Returns the state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Records a change and applies it. Durable state changes in no other way.
    pub(crate) fn emit(&mut self, change: Change) {
        self.state.apply(self.state.now, &change);
        self.step.changes.push(change);
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.step.commands.push(command);
    }

    /// Creates the token for the next lease.
    pub(crate) fn mint(&mut self) -> kahn_model::Token {
        self.next_serial += 1;
        kahn_model::Token {
            epoch: self.term.epoch,
            serial: self.next_serial,
            nonce: self.term.nonce,
        }
    }

    pub(crate) fn run_or_refuse(&self, id: RunId) -> Result<&crate::state::Run, Refusal> {
        self.state.run(id).ok_or_else(|| match self.state.archived_run(id) {
            Some(_) => Refusal::Archived(id),
            None => Refusal::UnknownRun(id),
        })
    }

    /// Returns the state of a run, archived or not.
    pub(crate) fn run_state_or_refuse(&self, id: RunId) -> Result<RunState, Refusal> {
        let summary = self.state.summary(id).ok_or(Refusal::UnknownRun(id))?;
        Ok(summary.state)
    }

    fn start_step(&mut self, now: Timestamp) {
        self.state.now = self.state.now.max(now);
        self.state.timings.clear();
    }

    /// Converts the pending effects into commands and returns the step.
    fn take_step(&mut self) -> Step {
        self.carry_out_effects();
        std::mem::take(&mut self.step)
    }
}
