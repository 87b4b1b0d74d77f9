//! The driver: the task that owns the core.
//!
//! Nothing is sent, and no deadline is handled, unless the store has confirmed recently that this
//! coordinator is the leader.
//!
//! Each round takes the inputs that have arrived, passes them to the core, places tasks, sends the
//! new changes to the log, and releases everything that has become durable. While an append is in
//! flight, the next round collects the next batch; no timer is involved.

mod assignments;
mod dispatch;
mod durable;

use std::sync::Arc;
use std::time::Duration;

use kahn_core::{Command, Core, Event, Outbox, Step};
use kahn_model::Timestamp;
use kahn_runtime::clock::Clock;
use tokio::sync::mpsc;
use tracing::{debug, error};

use crate::evaluate::Evaluators;
use crate::inbox::Input;
use crate::sessions::Sessions;
use crate::spans::Spans;
use crate::stats::Stats;
use crate::watchers::Watchers;
use dispatch::Dispatch;
use durable::Durable;

/// Maximum number of inputs per round, so that the log does not wait long.
const INPUTS_PER_ROUND: usize = 1024;
/// How often the auditor runs.
const AUDIT_EVERY: Duration = Duration::from_secs(10);

/// An effect that waits for changes to become durable.
pub(crate) enum Effect {
    /// A command of the core.
    Command(Command),
    /// A reply to a request.
    Answer(Box<dyn FnOnce() + Send>),
}

/// Why the driver has ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was closed, and everything is durable.
    Closed,
    /// Another coordinator has taken over a partition.
    Deposed,
    /// The log of a partition contains what this coordinator did not write, or has lost more than
    /// memory still holds. An operator has to look at it.
    Diverged,
    /// A bug.
    Failed,
}

/// The state of the driver.
pub(crate) struct Driver {
    core: Core,
    clock: Arc<Clock>,
    inbox: mpsc::Receiver<Input>,
    outbox: Outbox<Effect>,
    durable: Durable,
    dispatch: Dispatch,
    stats: Stats,
    spans: Spans,
    audit_due: Timestamp,
    is_closing: bool,
}

/// The components of a driver.
pub(crate) struct Parts {
    pub core: Core,
    pub clock: Arc<Clock>,
    pub inbox: mpsc::Receiver<Input>,
    pub durable: Durable,
    pub sessions: Sessions,
    pub watchers: Watchers,
    pub evaluators: Evaluators,
    pub stats: Stats,
    pub spans: Spans,
}

pub(crate) use durable::Durable as Log;

impl Driver {
    pub(crate) fn new(parts: Parts, first: Step) -> Self {
        let partitions = parts.core.state().settings().partitions;
        let dispatch = Dispatch::new(
            parts.sessions,
            parts.watchers,
            parts.evaluators,
            parts.core.state().settings().lease_ttl,
        );
        let mut driver = Self {
            core: parts.core,
            clock: parts.clock,
            inbox: parts.inbox,
            outbox: Outbox::new(partitions),
            durable: parts.durable,
            dispatch,
            stats: parts.stats,
            spans: parts.spans,
            audit_due: Timestamp::ZERO,
            is_closing: false,
        };
        driver.take(first);
        driver
    }

    /// Runs until it is closed or loses a partition.
    pub(crate) async fn run(mut self) -> Ended {
        self.finish_round();
        loop {
            let Some(first) = self.next_input().await else { return self.close().await };
            if let Some(ended) = self.round(first) {
                return ended;
            }
            if self.is_closing && self.outbox.is_idle() {
                return self.close().await;
            }
        }
    }

    async fn close(mut self) -> Ended {
        self.release();
        self.durable.close().await;
        Ended::Closed
    }

    async fn next_input(&mut self) -> Option<Input> {
        if self.core.has_more_to_place() {
            return Some(self.inbox.try_recv().unwrap_or(Input::Nothing));
        }
        let deadline = self.core.next_deadline().filter(|_| self.durable.is_leading());
        let due = [deadline, self.stats.due()].into_iter().flatten().min();
        let due = due.map_or(self.audit_due, |at| at.min(self.audit_due));
        let wait = due.since(self.now());
        tokio::select! {
            biased;
            input = self.inbox.recv() => input,
            () = tokio::time::sleep(wait) => Some(Input::Nothing),
        }
    }

    fn round(&mut self, first: Input) -> Option<Ended> {
        let began_at = self.now();
        let mut next = Some(first);
        for _ in 0..INPUTS_PER_ROUND {
            let Some(input) = next else { break };
            if let Some(ended) = self.take_input(input) {
                return Some(ended);
            }
            next = self.inbox.try_recv().ok();
        }
        if let Some(input) = next
            && let Some(ended) = self.take_input(input)
        {
            return Some(ended);
        }
        let now = self.now();
        let is_due = self.core.next_deadline().is_some_and(|at| at <= now);
        if is_due && self.durable.is_leading() {
            self.handle(now, Event::DeadlineReached);
        }
        let step = self.core.place(now);
        self.take(step);
        self.audit_if_due(now);
        self.finish_round();
        self.stats.round(self.now().since(began_at));
        None
    }

    /// Sends collected changes to the log, and releases effects whose changes are durable.
    fn finish_round(&mut self) {
        let now = self.now();
        for batch in self.outbox.take_batches() {
            self.durable.append(batch, now, &self.core, &self.stats);
        }
        self.release();
        self.stats.observe(&self.core, self.outbox.n_waiting());
    }

    fn release(&mut self) {
        // Another coordinator may have taken over. A renewal of the lease brings the next round.
        if !self.durable.is_leading() {
            return;
        }
        for effect in self.outbox.release_all() {
            match effect {
                Effect::Command(command) => self.dispatch.carry_out(command, &self.core),
                Effect::Answer(answer) => answer(),
            }
        }
        for session in self.dispatch.flush() {
            self.handle(self.now(), Event::WorkerDetached { session });
        }
    }

    fn take_input(&mut self, input: Input) -> Option<Ended> {
        let now = self.now();
        match input {
            Input::Nothing => {}
            Input::Event(event) => self.handle(now, event),
            Input::Request { event, reply } => {
                let answer = self.try_handle(now, event);
                self.outbox.hold(Effect::Answer(Box::new(move || {
                    // The receiver may be gone.
                    drop(reply.send(answer));
                })));
            }
            Input::Query(query) => {
                let answer = query(&self.core);
                self.outbox.hold(Effect::Answer(answer));
            }
            Input::Peek(peek) => peek(&self.core),
            Input::Attach { attachment, outbound } => {
                self.dispatch.open(attachment.session, outbound);
                self.handle(now, Event::WorkerAttached(attachment));
            }
            Input::Detach { session } => {
                self.dispatch.forget(session);
                self.handle(now, Event::WorkerDetached { session });
            }
            Input::Reports { session, reports } => {
                for report in reports {
                    let event = Event::Reported { session, report: Box::new(report) };
                    self.handle_from(now, session, event);
                }
            }
            Input::Heartbeat { session, number } => {
                let is_known = self.handle_from(now, session, Event::Heartbeat { session });
                // A receipt extends the worker's right to go on, which only the leader may do.
                if is_known && self.durable.is_leading() {
                    self.dispatch.receipt(session, number);
                }
            }
            Input::Admission { session, admission } => {
                self.handle_from(now, session, Event::AdmissionChanged { session, admission });
            }
            Input::Draining { session } => {
                self.handle_from(now, session, Event::DrainStarted { session });
            }
            Input::Log(event) => return self.on_log(now, event),
            Input::Checkpointed { partition, seq, written } => {
                self.durable.checkpointed(partition, seq, written);
            }
            Input::Swept { partition } => self.durable.swept(partition),
            Input::Close => self.is_closing = true,
        }
        None
    }

    fn on_log(&mut self, now: Timestamp, event: kahn_store::AppendEvent) -> Option<Ended> {
        match self.durable.on_event(now, event, &mut self.stats) {
            durable::Progress::Committed { partition, number } => {
                self.outbox.committed(partition, number);
                None
            }
            durable::Progress::Waiting => None,
            durable::Progress::Ended(ended) => Some(ended),
        }
    }

    /// Handles an event of a session, and closes the session if it was replaced. Returns whether
    /// the session is in force.
    fn handle_from(&mut self, now: Timestamp, session: kahn_core::SessionId, event: Event) -> bool {
        let outcome = self.try_handle(now, event);
        if outcome.is_err() {
            self.dispatch.disconnect(session);
        }
        outcome.is_ok()
    }

    fn handle(&mut self, now: Timestamp, event: Event) {
        if let Err(refusal) = self.try_handle(now, event) {
            debug!(%refusal, "refused");
        }
    }

    fn try_handle(&mut self, now: Timestamp, event: Event) -> Result<(), kahn_core::Refusal> {
        let step = self.core.handle(now, event)?;
        self.take(step);
        Ok(())
    }

    fn take(&mut self, step: Step) {
        self.stats.count(&step.changes, &self.core);
        let ended = self.spans.observe(&step.changes, self.core.state());
        // The core's time, which equals the clock's unless a later time was recovered.
        self.outbox.accept(self.core.state().now(), step.changes);
        for command in step.commands {
            self.outbox.hold(Effect::Command(command));
        }
        for span in ended {
            let traces = self.spans.traces().clone();
            self.outbox.hold(Effect::Answer(Box::new(move || traces.record(span))));
        }
    }

    fn audit_if_due(&mut self, now: Timestamp) {
        if now < self.audit_due {
            return;
        }
        self.audit_due = now + AUDIT_EVERY;
        if self.core.state().n_runs() == 0 {
            return;
        }
        let findings = self.core.audit();
        for finding in &findings {
            error!(finding, "the auditor had to repair the state; please report this");
        }
        if !findings.is_empty() {
            self.stats.repaired(self.core.repair());
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.unix_micros())
    }
}
