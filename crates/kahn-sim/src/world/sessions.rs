//! Sessions between a coordinator and its peers: turns messages from workers into input, and
//! outputs of the driver into messages.

use kahn_core::{
    Attachment, Command, Event, Held, ReportKind, SessionId, StopReason, WorkerReport,
};
use kahn_model::{ActionKind, AttemptId, BootId, Cause, CauseKind, Failure, RunId, TaskIx, Token};
use kahn_worker_core::{Inventory, Report};

use super::network::{Down, StreamId, Up};
use super::{SimEvent, World};
use crate::driver::{Input, Output};
use crate::mutation::Mutation;
use crate::queue::us;
use crate::workload::span;

impl World {
    /// Handles a message from a worker.
    pub(super) fn on_up(&mut self, id: StreamId, message: Up) {
        let Some(stream) = self.streams.get(id) else { return };
        let (ix, worker) = (stream.coordinator, stream.worker);
        let is_taken = self.coordinators[ix].leadership == stream.leadership;
        if !is_taken || !self.coordinators[ix].is_leading() {
            self.close_at_coordinator(id);
            return;
        }
        let nonce = self.coordinators[ix].nonce;
        if matches!(message, Up::Hello(..)) {
            self.coordinators[ix].streams.insert(id);
            self.coordinators[ix].latest.insert(worker, id);
        }
        let is_latest = self.coordinators[ix].latest.get(&worker) == Some(&id);
        let is_sign_of_life = !matches!(message, Up::End);
        if is_sign_of_life && is_latest && self.coordinators[ix].streams.contains(&id) {
            self.oracle.note_message(nonce, &self.workers[worker].id);
        }
        let session = SessionId(id.0);
        match message {
            Up::Hello(boot, inventory) => {
                let attachment = self.attachment(ix, session, worker, boot, *inventory);
                self.receive(ix, Input::Event(Event::WorkerAttached(Box::new(attachment))));
            }
            Up::Reports(reports) => {
                for report in reports {
                    let report = Box::new(self.worker_report(ix, worker, report));
                    self.receive(ix, Input::Event(Event::Reported { session, report }));
                }
            }
            Up::Heartbeat(number) => self.receive(ix, Input::Heartbeat(session, number)),
            Up::Admission(admission) => {
                let event = Event::AdmissionChanged { session, admission };
                self.receive(ix, Input::Event(event));
            }
            Up::Draining => self.receive(ix, Input::Event(Event::DrainStarted { session })),
            Up::End => self.broken_at_coordinator(id),
        }
    }

    pub(super) fn coordinator_lost_stream(&mut self, ix: usize, id: StreamId) {
        if self.coordinators[ix].streams.remove(&id) {
            let session = SessionId(id.0);
            self.receive(ix, Input::Event(Event::WorkerDetached { session }));
        }
    }

    /// Adds an input to the inbox. It is handled in the next turn.
    pub(super) fn receive(&mut self, ix: usize, input: Input) {
        self.coordinators[ix].inbox.push_back(input);
        let busy = us(self.rng.u64(0..=200));
        self.plan_turn(ix, self.now + busy);
    }

    fn attachment(
        &mut self,
        ix: usize,
        session: SessionId,
        worker: usize,
        boot: BootId,
        inventory: Inventory,
    ) -> Attachment {
        let held = inventory.held.iter().map(|held| Held {
            attempt: held.attempt,
            token: held.token,
            is_started: held.is_started,
        });
        let held = held.collect();
        let unacknowledged = inventory
            .unacknowledged
            .into_iter()
            .map(|report| self.worker_report(ix, worker, report))
            .collect();
        let process = &self.workers[worker];
        Attachment {
            session,
            worker: process.id.clone(),
            boot,
            capacity: process.capacity.clone(),
            leases_max: process.leases_max,
            labels: process.labels.clone(),
            executors: ActionKind::ALL.to_vec(),
            admission: inventory.admission,
            held,
            unacknowledged,
        }
    }

    fn worker_report(&self, ix: usize, worker: usize, report: Report) -> WorkerReport {
        let Report { attempt, token, kind } = report;
        let kind = match kind {
            kahn_worker_core::ReportKind::Started => ReportKind::Started,
            kahn_worker_core::ReportKind::Returned => ReportKind::Returned,
            kahn_worker_core::ReportKind::Finished { outcome, usage, .. } => {
                ReportKind::Finished { outcome, usage }
            }
        };
        let token = match self.options.mutation {
            Some(Mutation::NoTokenCheck) => self.token_in_force(ix, worker, attempt, token),
            _ => token,
        };
        WorkerReport { attempt, token, kind }
    }

    /// A deliberate bug: returns the token of the current lease instead of the reported one.
    fn token_in_force(&self, ix: usize, worker: usize, attempt: AttemptId, token: Token) -> Token {
        let found = || {
            let state = self.coordinators[ix].core()?.state();
            let lease = state.lease_of(state.run(attempt.run)?, attempt.task)?;
            (lease.boot == self.workers[worker].boot).then_some(lease.token)
        };
        found().unwrap_or(token)
    }

    pub(super) fn carry_out(&mut self, ix: usize, output: Output) {
        match output {
            Output::Command(command) => self.carry_out_command(ix, command),
            Output::HeartbeatNoted(session, number) => {
                self.send_to_worker(ix, session, Down::HeartbeatNoted(number));
            }
            Output::Answer(request, answer) => self.answer_request(ix, request, answer),
            Output::View(request, view) => self.show(ix, request, view),
        }
    }

    fn carry_out_command(&mut self, ix: usize, command: Command) {
        self.oracle.command_leaves(&command);
        match command {
            Command::Grant { session, grant } => {
                self.send_to_worker(ix, session, Down::Lease(grant));
            }
            Command::Stop { session, attempt, token, reason } => {
                let is_trusting = self.options.mutation == Some(Mutation::NoConfirmation);
                if is_trusting && reason == StopReason::TimedOut {
                    self.believe_ended(ix, session, attempt, token);
                }
                self.send_to_worker(ix, session, Down::Stop(token, reason));
            }
            Command::Recall { session, token, .. } => {
                self.send_to_worker(ix, session, Down::Recall(token));
            }
            Command::Acknowledge { session, token, .. } => {
                self.send_to_worker(ix, session, Down::Acknowledge(token));
            }
            Command::Welcome { session } => self.send_to_worker(ix, session, Down::Welcome),
            Command::Drain { session } => self.send_to_worker(ix, session, Down::Drain),
            Command::Disconnect { session } => {
                if self.coordinators[ix].streams.remove(&StreamId(session.0)) {
                    self.close_at_coordinator(StreamId(session.0));
                }
            }
            Command::Evaluate { run, task } => self.evaluate(ix, run, task),
            Command::Notify { .. } => {}
        }
    }

    /// A deliberate bug: the coordinator needs no report of the worker.
    fn believe_ended(&mut self, ix: usize, session: SessionId, attempt: AttemptId, token: Token) {
        let report = Box::new(WorkerReport { attempt, token, kind: ReportKind::Returned });
        self.receive(ix, Input::Event(Event::Reported { session, report }));
    }

    fn send_to_worker(&mut self, ix: usize, session: SessionId, message: Down) {
        let id = StreamId(session.0);
        if self.coordinators[ix].streams.contains(&id) {
            self.send_down(id, message);
        }
    }

    fn evaluate(&mut self, ix: usize, run: RunId, task: TaskIx) {
        let outcome = match self.rng.u32(..10) {
            0 => Err(Failure::of(CauseKind::Condition)),
            1 => Err(Failure::new(Cause::of(CauseKind::Expression), "no such output")),
            _ => Ok(None),
        };
        let event = Box::new(Event::Evaluated { run, task, outcome });
        let leadership = self.coordinators[ix].leadership;
        let at = self.now + span(&mut self.rng, 0, 5);
        self.queue.plan(at, SimEvent::Evaluated { coordinator: ix, leadership, event });
    }

    pub(super) fn on_evaluated(&mut self, ix: usize, leadership: u64, event: Event) {
        if self.coordinators[ix].leadership == leadership && self.coordinators[ix].is_leading() {
            self.receive(ix, Input::Event(event));
        }
    }
}
