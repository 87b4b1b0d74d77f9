//! The coordinator's decisions: every event the system knows, and what is done about it.

use kahn_model::{RunId, Timestamp};

use crate::change::Change;
use crate::command::Command;
use crate::event::Event;
use crate::log::Term;
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::state::State;

/// What one event changed, and what the caller must now do about it.
#[derive(Debug, Default)]
pub struct Step {
    /// Facts to be made durable, in this order.
    pub changes: Vec<Change>,
    /// To be carried out, in this order, only when `changes` and all before them are durable.
    pub commands: Vec<Command>,
}

/// The coordinator's state machine.
///
/// A new core is fed the past ([`Core::restore`], [`Core::replay`]) and then told that its term
/// begins ([`Core::begin`]). From then on each event goes to [`Core::handle`]; after a batch of
/// events [`Core::place`] fills the room there is; and when [`Core::next_deadline`] has come, the
/// event is [`Event::DeadlineReached`].
#[derive(Debug)]
pub struct Core {
    pub(crate) state: State,
    pub(crate) step: Step,
    term: Term,
    next_serial: u64,
}

impl Core {
    /// A core that knows of no run.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            state: State::new(settings),
            step: Step::default(),
            term: Term { epoch: 0, nonce: 0 },
            next_serial: 0,
        }
    }

    /// Takes over what a checkpoint holds. Only before [`Core::begin`].
    pub fn restore(&mut self, snapshot: Snapshot) {
        self.state.restore(snapshot);
    }

    /// Lives through a change again that was made durable at `at`. Only before [`Core::begin`].
    pub fn replay(&mut self, at: Timestamp, change: &Change) {
        self.state.apply(at, change);
    }

    /// Begins a term at `now`: every lease known gets its full time again, whoever holds it, and
    /// unanswered questions are asked again.
    pub fn begin(&mut self, now: Timestamp, term: Term) -> Step {
        self.term = term;
        self.next_serial = 0;
        self.state.now = self.state.now.max(now);
        self.resume_after_takeover();
        std::mem::take(&mut self.step)
    }

    /// Takes one event at `now`.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`], and leaves the state as it was, when what is asked for is not
    /// possible.
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Result<Step, Refusal> {
        self.state.now = self.state.now.max(now);
        match event {
            Event::Submitted(submission) => self.on_submitted(submission)?,
            Event::CancelRequested { run, reason } => self.on_cancel_requested(run, &reason)?,
            Event::PauseRequested { run } => self.on_pause_requested(run)?,
            Event::ResumeRequested { run } => self.on_resume_requested(run)?,
            Event::RetryRequested { run, scope } => self.on_retry_requested(run, scope)?,
            Event::RunExpired { run } => self.on_run_expired(run)?,
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

    /// Grants leases for as much as there is room. To be called after each batch of events.
    ///
    /// Grants at most [`Settings::grants_per_pass`]; [`Core::has_more_to_place`] then says so.
    pub fn place(&mut self, now: Timestamp) -> Step {
        self.state.now = self.state.now.max(now);
        self.schedule();
        self.take_step()
    }

    /// When to send [`Event::DeadlineReached`] next, if ever.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.state.timers.next()
    }

    /// The state, to be asked.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Records a change and applies it; nothing else alters what is durable.
    pub(crate) fn emit(&mut self, change: Change) {
        self.state.apply(self.state.now, &change);
        self.step.changes.push(change);
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.step.commands.push(command);
    }

    /// The token of the next lease.
    pub(crate) fn mint(&mut self) -> kahn_model::Token {
        self.next_serial += 1;
        kahn_model::Token {
            epoch: self.term.epoch,
            serial: self.next_serial,
            nonce: self.term.nonce,
        }
    }

    pub(crate) fn run_or_refuse(&self, id: RunId) -> Result<&crate::state::Run, Refusal> {
        self.state.run(id).ok_or(Refusal::UnknownRun(id))
    }

    /// Turns what applying has asked for into commands, and hands the step over.
    fn take_step(&mut self) -> Step {
        self.carry_out_effects();
        std::mem::take(&mut self.step)
    }
}
