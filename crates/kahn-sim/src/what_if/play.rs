//! Runs the two cores without a network or a store, on one clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use kahn_core::log::Term;
use kahn_core::{
    Attachment, Command, Core, Event, Grant, ReportKind, SessionId, Settings, Submission,
    WorkerReport,
};
use kahn_model::{
    ActionKind, Admission, BootId, Dag, Name, Namespace, OnDisconnect, Outputs, RunId, TaskIx,
    Timestamp, Token, Usage, Uuid, WorkerId,
};
use kahn_worker_core as worker;
use kahn_worker_core::WorkerCore;

use super::{Placement, WhatIf};

/// A timeout that never expires, because all workers stay connected.
const FOREVER: Duration = Duration::from_secs(200 * 365 * 24 * 3600);
/// The maximum number of reports that a worker sends at one time.
const REPORTS_MAX: usize = 1 << 16;

/// A future event at a worker.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Lease(u64),
    Stop(Token),
    Recall(Token),
    End(Token),
}

#[derive(Debug)]
struct SimWorker {
    core: WorkerCore<()>,
    /// When each current execution started.
    started: BTreeMap<Token, Timestamp>,
    has_news: bool,
}

#[derive(Debug)]
struct RunSimulation<'a> {
    dag: &'a Arc<Dag>,
    question: &'a WhatIf,
    now: Timestamp,
    core: Core,
    run: RunId,
    workers: Vec<SimWorker>,
    due: BinaryHeap<Reverse<(Timestamp, u64, usize, Due)>>,
    grants: BTreeMap<u64, Grant>,
    n_planned: u64,
    ready: Vec<Timestamp>,
    placements: Vec<Placement>,
}

/// Simulates one run to its end.
pub(super) fn play(dag: &Arc<Dag>, question: &WhatIf) -> Vec<Placement> {
    let mut simulation = RunSimulation::new(dag, question);
    simulation.open();
    while simulation.step() {}
    simulation.placements
}

impl<'a> RunSimulation<'a> {
    fn new(dag: &'a Arc<Dag>, question: &'a WhatIf) -> Self {
        let settings = Settings {
            suspect_after: FOREVER,
            lease_ttl: FOREVER,
            spreading: question.policy,
            ..Settings::default()
        };
        let worker = |shape: &super::WorkerShape| {
            let capacity = shape.capacity.clone();
            let settings = worker::Settings {
                capacity,
                heartbeat_period: FOREVER,
                ..worker::Settings::default()
            };
            SimWorker {
                core: WorkerCore::new(settings, Vec::new()),
                started: BTreeMap::new(),
                has_news: false,
            }
        };
        Self {
            dag,
            question,
            now: Timestamp::ZERO,
            core: Core::new(settings),
            run: RunId::new(Uuid::from_u128(1)),
            workers: question.workers.iter().map(worker).collect(),
            due: BinaryHeap::new(),
            grants: BTreeMap::new(),
            n_planned: 0,
            ready: vec![Timestamp::ZERO; dag.n_tasks()],
            placements: Vec::with_capacity(dag.n_tasks()),
        }
    }

    /// Attaches all workers and submits the run.
    fn open(&mut self) {
        let step = self.core.begin(self.now, Term { epoch: 1, nonce: 1 });
        self.carry_out(step.commands);
        for at in 0..self.workers.len() {
            self.feed_worker(at, worker::Event::Connected);
            self.feed_worker(at, worker::Event::Welcomed { lease_ttl: FOREVER });
            let attachment = Box::new(self.attachment(at));
            self.feed_core(Event::WorkerAttached(attachment));
        }
        let submission = Submission {
            run: self.run,
            namespace: Namespace::default(),
            dag: Arc::clone(self.dag),
            params: BTreeMap::new(),
            digest: [0; 16],
            labels: BTreeMap::new(),
        };
        self.feed_core(Event::Submitted(Arc::new(submission)));
        self.run_until_idle();
    }

    fn attachment(&self, at: usize) -> Attachment {
        let shape = &self.question.workers[at];
        let fallback = || Name::new(&format!("worker-{}", at + 1)).expect("invariant: a name");
        Attachment {
            session: session(at),
            worker: WorkerId::new(Name::new(&shape.name).unwrap_or_else(|_| fallback())),
            boot: BootId(1),
            capacity: shape.capacity.clone(),
            leases_max: u32::MAX,
            labels: shape.labels.clone(),
            executors: ActionKind::ALL.to_vec(),
            admission: Admission::default(),
            held: Vec::new(),
            unacknowledged: Vec::new(),
        }
    }

    /// Advances to the next time at which something happens. Returns `false` if there is none.
    fn step(&mut self) -> bool {
        let is_over = self.core.state().run(self.run).is_none_or(|run| run.state.is_terminal());
        let next = self.due.peek().map(|Reverse((at, ..))| *at);
        let deadline = self.core.next_deadline().filter(|at| *at < Timestamp::ZERO + FOREVER);
        let Some(at) = [next, deadline].into_iter().flatten().min().filter(|_| !is_over) else {
            return false;
        };
        self.now = self.now.max(at);
        while self.due.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Some(Reverse((_, _, worker, due))) = self.due.pop() else { break };
            self.deliver(worker, due);
        }
        if deadline.is_some_and(|at| at <= self.now) {
            self.feed_core(Event::DeadlineReached);
        }
        self.run_until_idle();
        true
    }

    fn deliver(&mut self, worker: usize, due: Due) {
        match due {
            Due::Lease(number) => {
                let Some(grant) = self.grants.remove(&number) else { return };
                let lease = worker::Lease {
                    attempt: grant.attempt,
                    token: grant.token,
                    resources: grant.resources,
                    on_disconnect: OnDisconnect::Keep,
                    payload: (),
                };
                self.feed_worker(worker, worker::Event::Leased(lease));
            }
            Due::Stop(token) => {
                let reason = worker::StopReason::Cancelled;
                self.feed_worker(worker, worker::Event::StopRequested { token, reason });
            }
            Due::Recall(token) => {
                self.feed_worker(worker, worker::Event::RecallRequested { token });
            }
            Due::End(token) => self.end(worker, token),
        }
    }

    fn end(&mut self, worker: usize, token: Token) {
        let Some(started) = self.workers[worker].started.remove(&token) else { return };
        let usage = Usage { elapsed: self.now.since(started), ..Usage::default() };
        let outcome = Ok(Outputs::default());
        let is_output_late = false;
        let end = worker::Event::AttemptFinished { token, outcome, usage, is_output_late };
        self.feed_worker(worker, end);
    }

    /// Delivers reports and places tasks until nothing more happens at this time.
    fn run_until_idle(&mut self) {
        loop {
            for worker in 0..self.workers.len() {
                if std::mem::take(&mut self.workers[worker].has_news) {
                    self.deliver_reports(worker);
                }
            }
            let step = self.core.place(self.now);
            let has_more = self.core.has_more_to_place() && !step.changes.is_empty();
            self.carry_out(step.commands);
            if !has_more && self.workers.iter().all(|worker| !worker.has_news) {
                return;
            }
        }
    }

    fn deliver_reports(&mut self, worker: usize) {
        for report in self.workers[worker].core.take_reports(REPORTS_MAX) {
            let worker::Report { attempt, token, kind } = report;
            let kind = match kind {
                worker::ReportKind::Started => ReportKind::Started,
                worker::ReportKind::Returned => ReportKind::Returned,
                worker::ReportKind::Finished { outcome, usage, .. } => {
                    self.note_ready(attempt.task);
                    ReportKind::Finished { outcome, usage }
                }
            };
            let report = Box::new(WorkerReport { attempt, token, kind });
            self.feed_core(Event::Reported { session: session(worker), report });
        }
    }

    /// Records that dependents of a task that ends now are ready no earlier than now.
    fn note_ready(&mut self, task: TaskIx) {
        for dependent in self.dag.dependents(task) {
            let ready = &mut self.ready[dependent.task.index()];
            *ready = (*ready).max(self.now);
        }
    }

    fn feed_core(&mut self, event: Event) {
        // Refusals only answer reports of workers that were declared lost, and there are none.
        if let Ok(step) = self.core.handle(self.now, event) {
            self.carry_out(step.commands);
        }
    }

    fn carry_out(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Grant { session, grant } => {
                    let number = self.n_planned;
                    self.grants.insert(number, *grant);
                    self.send(session, Due::Lease(number));
                }
                Command::Stop { session, token, .. } => self.send(session, Due::Stop(token)),
                Command::Recall { session, token, .. } => self.send(session, Due::Recall(token)),
                Command::Acknowledge { session, token, .. } => {
                    self.feed_worker(worker_ix_of(session), worker::Event::Acknowledged { token });
                }
                Command::Evaluate { run, task } => {
                    self.feed_core(Event::Evaluated { run, task, outcome: Ok(None) });
                }
                Command::Welcome { .. }
                | Command::Disconnect { .. }
                | Command::Drain { .. }
                | Command::Notify { .. } => {}
            }
        }
    }

    /// Sends something to a worker. It arrives immediately if there is no latency.
    fn send(&mut self, session: SessionId, due: Due) {
        let worker = worker_ix_of(session);
        if self.question.dispatch_latency.is_zero() {
            self.n_planned += 1;
            self.deliver(worker, due);
        } else {
            self.plan(self.now + self.question.dispatch_latency, worker, due);
        }
    }

    fn plan(&mut self, at: Timestamp, worker: usize, due: Due) {
        self.n_planned += 1;
        self.due.push(Reverse((at, self.n_planned, worker, due)));
    }

    fn feed_worker(&mut self, worker: usize, event: worker::Event<()>) {
        for command in self.workers[worker].core.handle(self.now, event) {
            match command {
                worker::Command::Start(lease) => self.start(worker, &lease),
                worker::Command::Stop { token, .. } => self.end(worker, token),
                _ => {}
            }
        }
        self.workers[worker].has_news |= self.workers[worker].core.has_reports();
    }

    fn start(&mut self, worker: usize, lease: &worker::Lease<()>) {
        let task = lease.attempt.task;
        let end = self.now + self.question.duration(self.dag, task);
        self.workers[worker].started.insert(lease.token, self.now);
        self.placements.push(Placement {
            task,
            worker,
            ready: span(self.ready[task.index()].min(self.now)),
            start: span(self.now),
            end: span(end),
        });
        self.plan(end, worker, Due::End(lease.token));
        self.feed_worker(worker, worker::Event::AttemptStarted { token: lease.token });
    }
}

fn session(worker: usize) -> SessionId {
    SessionId(u64::try_from(worker).expect("invariant: u64 holds usize") + 1)
}

fn worker_ix_of(session: SessionId) -> usize {
    usize::try_from(session.0 - 1).expect("invariant: made from a usize")
}

fn span(at: Timestamp) -> Duration {
    at.since(Timestamp::ZERO)
}
