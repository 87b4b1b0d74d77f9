//! The driver: the task that owns the worker's core.

mod attempts;
mod keeping;
mod lasting;
mod launch;

use std::time::Duration;

use kahn_model::{Timestamp, Token};
use kahn_proto::convert;
use kahn_proto::worker::{
    Draining, Heartbeat, Reports, WorkerMessage, coordinator_message, worker_message,
};
use kahn_runtime::clock::Clock;
use kahn_worker_core::{Command, Event, Lease, Sample, WorkerCore};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::session::Outbound;
use crate::stats::Stats;
use crate::wire::{self, Assignments, Identity, Task, Unreadable};
use attempts::Attempts;
use keeping::Keeping;
use launch::Ended;

pub(crate) use attempts::Parts as AttemptParts;
pub(crate) use keeping::left_behind;
pub(crate) use lasting::Lasting;

/// Maximum inputs handled per round.
const INPUTS_PER_ROUND: usize = 1024;
/// Maximum reports per message.
const REPORTS_PER_MESSAGE: usize = 4096;
/// How long results are buffered before they are written. Results acknowledged by then are never
/// written.
const KEEP_EVERY: Duration = Duration::from_millis(10);

/// An input of the driver.
pub(crate) enum Input {
    /// A stream was opened; the inventory is its first message.
    Connected(Outbound),
    /// The stream has ended.
    Disconnected,
    /// The coordinator sent a message.
    Message(coordinator_message::Message),
    /// An attempt has started.
    Started(Token),
    /// Attempts have ended.
    Ended(Vec<Ended>),
    /// The pressure on the worker was measured.
    Measured(Sample),
    /// A drain was requested: finish the held leases, then exit.
    Drain,
    /// Somebody wants to know whether the driver makes progress.
    Probe(oneshot::Sender<()>),
}

pub(crate) struct Driver {
    core: WorkerCore<Task>,
    clock: Clock,
    identity: Identity,
    inbox: mpsc::Receiver<Input>,
    outbound: Option<Outbound>,
    assignments: Assignments,
    attempts: Attempts,
    keeping: Keeping,
    lasting: Lasting,
    stats: Stats,
    has_connected: bool,
    is_leaving: bool,
}

impl Driver {
    pub(crate) fn new(
        core: WorkerCore<Task>,
        identity: Identity,
        inbox: mpsc::Receiver<Input>,
        attempts: AttemptParts,
        spool: crate::spool::Spool,
        lasting: Lasting,
        stats: Stats,
    ) -> Self {
        Self {
            core,
            clock: Clock::start(),
            identity,
            inbox,
            outbound: None,
            assignments: Assignments::default(),
            attempts: Attempts::new(attempts),
            keeping: Keeping::new(spool),
            lasting,
            stats,
            has_connected: false,
            is_leaving: false,
        }
    }

    /// Runs until the worker has drained.
    pub(crate) async fn run(mut self) {
        self.resume();
        while !self.is_leaving {
            let Some(first) = self.next_input().await else { return };
            let mut next = first;
            for _ in 0..INPUTS_PER_ROUND {
                let Some(input) = next else { break };
                self.take(input);
                next = self.inbox.try_recv().ok();
            }
            if let Some(input) = next {
                self.take(input);
            }
            let now = self.now();
            if self.core.next_deadline().is_some_and(|at| at <= now) {
                self.handle(Event::DeadlineReached);
            }
            self.attempts.launch();
            if self.core.reports_due().is_some_and(|at| at <= now) {
                self.send_reports();
            }
            self.keeping.write_if_due(now);
            self.stats.running.set(self.attempts.n_running());
            self.stats.connected.set(self.outbound.is_some().into());
        }
        self.keeping.write_now();
        info!("drained; exiting");
    }

    /// Continues with the attempts of a previous process that go on without it.
    fn resume(&mut self) {
        for lease in self.lasting.take_left() {
            if self.core.resume(lease.clone()) {
                info!(run = %lease.attempt.run, task = &*lease.payload.name, "attempt goes on");
                if let Some(report) = self.attempts.start(&lease, true) {
                    self.end(Ended { token: lease.token, report, is_output_late: false });
                }
            } else {
                self.lasting.forget(lease.token);
            }
        }
        self.attempts.launch();
    }

    /// Waits for the next input. Returns `Some(None)` on a timeout, and `None` when the inbox is
    /// closed.
    async fn next_input(&mut self) -> Option<Option<Input>> {
        let now = self.now();
        let reports_due = self.core.reports_due();
        let are_reports_late = reports_due.is_some_and(|at| at <= now);
        let reports_due = reports_due.filter(|_| !are_reports_late);
        let due = [self.core.next_deadline(), self.keeping.due(), reports_due];
        let due = due.into_iter().flatten().min();
        let sleep = async {
            match due {
                Some(at) => tokio::time::sleep(at.since(now)).await,
                None => std::future::pending().await,
            }
        };
        // Overdue reports are sent as soon as the stream has room.
        let room = async {
            match &self.outbound {
                Some(outbound) if are_reports_late => drop(outbound.reserve().await),
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            input = self.inbox.recv() => input.map(Some),
            () = room => Some(None),
            () = sleep => Some(None),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.unix_micros())
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Connected(outbound) => {
                self.outbound = Some(outbound);
                if std::mem::replace(&mut self.has_connected, true) {
                    self.stats.reconnects.inc();
                }
                self.handle(Event::Connected);
            }
            Input::Disconnected => {
                self.outbound = None;
                self.handle(Event::Disconnected);
            }
            Input::Message(message) => {
                if let Err(error) = self.take_message(message) {
                    warn!(%error, "invalid message from the coordinator; reconnecting");
                    self.outbound = None;
                }
            }
            Input::Started(token) => self.handle(Event::AttemptStarted { token }),
            Input::Ended(ended) => ended.into_iter().for_each(|ended| self.end(ended)),
            Input::Measured(sample) => {
                self.handle(Event::Measured(sample));
                self.stats.accepts.set(f64::from(self.core.share().permille()) / 1000.0);
            }
            Input::Drain => self.handle(Event::DrainRequested),
            // Nobody may be interested any more.
            Input::Probe(answer) => drop(answer.send(())),
        }
    }

    fn end(&mut self, Ended { token, report, is_output_late }: Ended) {
        if let Some(kind) = self.attempts.forget(token) {
            self.stats.ended(kind, &report);
        }
        let (outcome, usage) = (report.outcome, report.usage);
        self.handle(Event::AttemptFinished { token, outcome, usage, is_output_late });
        if self.lasting.keeps(token) {
            // The report first: without either, another start would have to give the attempt up.
            self.keeping.write_now();
            self.lasting.forget(token);
        }
    }

    fn take_message(&mut self, message: coordinator_message::Message) -> Result<(), Unreadable> {
        match message {
            coordinator_message::Message::Welcome(welcome) => {
                let lease_ttl = Duration::from_micros(welcome.lease_ttl_micros);
                info!(worker = %self.identity.worker, "attached");
                self.handle(Event::Welcomed { lease_ttl });
            }
            coordinator_message::Message::Heartbeat(receipt) => {
                self.handle(Event::HeartbeatAcknowledged { number: receipt.number });
            }
            coordinator_message::Message::Drain(_) => self.handle(Event::DrainRequested),
            coordinator_message::Message::Instructions(instructions) => {
                for lease in instructions.leases {
                    let lease = self.assignments.lease(lease)?;
                    self.handle(Event::Leased(lease));
                }
                for stop in instructions.stops {
                    let token = wire::token_of(stop.lease)?;
                    let reason = wire::stop_reason(stop.reason)?;
                    self.handle(Event::StopRequested { token, reason });
                }
                for lease in instructions.recalls {
                    self.handle(Event::RecallRequested { token: wire::token_of(Some(lease))? });
                }
                for lease in instructions.acknowledged {
                    self.handle(Event::Acknowledged { token: wire::token_of(Some(lease))? });
                }
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: Event<Task>) {
        let now = self.now();
        let mut todo = self.core.handle(now, event);
        // An attempt that ends immediately can produce more commands.
        while !todo.is_empty() {
            let mut more = Vec::new();
            for command in todo {
                more.extend(self.carry_out(now, command));
            }
            todo = more;
        }
    }

    fn carry_out(&mut self, now: Timestamp, command: Command<Task>) -> Vec<Command<Task>> {
        match command {
            Command::SendInventory(inventory) => {
                let unstored = self.attempts.unstored_logs();
                let hello = wire::hello(&self.identity, &inventory, unstored);
                self.send(worker_message::Message::Hello(hello));
            }
            Command::SendHeartbeat { number } => {
                self.send(worker_message::Message::Heartbeat(Heartbeat { number }));
            }
            Command::SendAdmission(admission) => {
                info!(%admission, "accepted share of the capacity changed");
                let message = convert::admission::to_wire(&admission);
                self.send(worker_message::Message::Admission(message));
            }
            Command::SendDraining => self.send(worker_message::Message::Draining(Draining {})),
            Command::Start(lease) => {
                // Before it starts, so that it is known after a crash in between.
                self.lasting.keep(&lease);
                return self.start(now, &lease);
            }
            Command::Stop { token, reason } => self.attempts.stop(token, reason),
            Command::Keep(report) => self.keeping.keep(now + KEEP_EVERY, report),
            Command::Forget { token } => self.keeping.forget(token),
            Command::Leave => self.is_leaving = true,
        }
        Vec::new()
    }

    /// Starts an attempt. Returns the commands that follow if it has ended at once.
    fn start(&mut self, now: Timestamp, lease: &Lease<Task>) -> Vec<Command<Task>> {
        let token = lease.token;
        let Some(report) = self.attempts.start(lease, false) else { return Vec::new() };
        self.lasting.forget(token);
        self.stats.ended(lease.payload.work.action.kind(), &report);
        let mut more = self.core.handle(now, Event::AttemptStarted { token });
        let (outcome, usage) = (report.outcome, report.usage);
        let event = Event::AttemptFinished { token, outcome, usage, is_output_late: false };
        more.extend(self.core.handle(now, event));
        more
    }

    /// Sends a message. Closes the stream if its buffer is full: the coordinator has stopped
    /// reading, and a new stream starts with the full state.
    fn send(&mut self, message: worker_message::Message) {
        let Some(outbound) = &self.outbound else { return };
        if outbound.try_send(WorkerMessage { message: Some(message) }).is_err() {
            self.outbound = None;
        }
    }

    fn send_reports(&mut self) {
        while let Some(outbound) = &self.outbound
            && self.core.has_reports()
        {
            let Ok(permit) = outbound.clone().try_reserve_owned() else { return };
            let reports = self.core.take_reports(REPORTS_PER_MESSAGE);
            let reports = Reports { reports: reports.iter().map(wire::report_to_wire).collect() };
            permit.send(WorkerMessage { message: Some(worker_message::Message::Reports(reports)) });
        }
    }
}
