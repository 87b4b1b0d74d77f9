//! The whole cluster in one thread, in virtual time: coordinators, workers, clients, a network and
//! a store, with one event queue and one random number generator.

mod archives;
mod clients;
mod comparing;
mod coordinators;
mod faults;
mod network;
mod sessions;
mod storage;
mod workers;

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use kahn_core::Settings;
use kahn_model::{BootId, Timestamp, Token};

use crate::digest::Digest;
use crate::driver::RequestId;
use crate::mutation::Mutation;
use crate::oracle::Oracle;
use crate::queue::{Queue, ms};
use crate::report::Report;
use crate::workload::chance;
use clients::{Client, Goal, Reply};
use coordinators::Coordinator;
use faults::Faults;
use network::{StreamId, Streams};
use storage::{AskId, Storage};
use workers::WorkerProcess;

/// After the faults, everything must end within this time.
const QUIESCE_MAX: Duration = Duration::from_secs(900);
/// The maximum length of an outbox.
const WAITING_MAX: usize = 20_000;

/// Options of a simulation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The seed, which determines everything.
    pub seed: u64,
    /// A deliberate bug.
    pub mutation: Option<Mutation>,
    /// Whether to keep every event as a line of text.
    pub is_traced: bool,
}

/// An event in the simulation.
#[derive(Debug)]
enum SimEvent {
    DeliverUp(StreamId),
    DeliverDown(StreamId),
    BrokenAtWorker(StreamId),
    BrokenAtCoordinator(StreamId),
    Turn { coordinator: usize, leadership: u64 },
    Renew { coordinator: usize, leadership: u64 },
    Campaign { coordinator: usize, incarnation: u64 },
    Follow { coordinator: usize, incarnation: u64 },
    WaitOver { coordinator: usize, leadership: u64, partition: usize },
    Evaluated { coordinator: usize, leadership: u64, event: Box<kahn_core::Event> },
    ArchivingDue { coordinator: usize, leadership: u64 },
    Stored { coordinator: usize, leadership: u64, event: Box<kahn_core::Event> },
    StoreAsked(Box<storage::Request>),
    StoreAnswered { ask: AskId, answer: Box<storage::Answer> },
    StoreTimedOut(AskId),
    StoreReplicated { partition: usize, op: u64 },
    WorkerTimer { worker: usize, boot: BootId },
    WorkerFlush { worker: usize, boot: BootId },
    WorkerMeasures { worker: usize, boot: BootId },
    WorkerConnect { worker: usize, boot: BootId },
    WorkerWatch { worker: usize, stream: StreamId },
    AttemptBegins { worker: usize, boot: BootId, token: Token },
    AttemptEnds { worker: usize, boot: BootId, token: Token, is_stop: bool },
    WorkerStarts(usize),
    CoordinatorStarts(usize),
    ClientActs(usize),
    ClientGivesUp { client: usize, request: RequestId },
    RequestArrives { coordinator: usize, client: usize, request: RequestId, goal: Goal },
    ReplyArrives { client: usize, request: RequestId, reply: Reply },
    Fault,
    Heal,
}

/// A simulated cluster.
#[derive(Debug)]
pub(crate) struct World {
    now: Timestamp,
    rng: Rng,
    queue: Queue<SimEvent>,
    settings: Settings,
    streams: Streams,
    storage: Storage,
    coordinators: Vec<Coordinator>,
    workers: Vec<WorkerProcess>,
    clients: Vec<Client>,
    requests: BTreeMap<RequestId, (usize, Goal)>,
    faults: Faults,
    oracle: Oracle,
    digest: Digest,
    report: Report,
    options: Options,
    /// Whether workers are under pressure.
    has_pressure: bool,
    /// Whether there are warm standbys, hand-overs and clocks of different rates.
    has_standbys: bool,
    /// Whether finished runs are archived.
    has_archives: bool,
    next_leadership: u64,
    next_boot: u64,
    next_request: u64,
}

/// Simulates one seed to its end.
#[must_use]
pub fn run(options: &Options) -> Report {
    World::new(*options).run()
}

impl World {
    fn new(options: Options) -> Self {
        let mut rng = Rng::with_seed(options.seed);
        let partitions = if chance(&mut rng, 70) { 1 } else { rng.u16(2..=3) };
        let mut settings = Settings { partitions, ..Settings::default() };
        if chance(&mut rng, 10) {
            settings.grants_per_pass = rng.usize(1..=3);
        }
        if chance(&mut rng, 20) {
            settings.prefetch_span = ms(2000);
        }
        // All exclude the seeds of the regression tests, so that they do not change.
        let has_pressure = matches!(options.seed % 7, 3 | 5);
        let has_standbys = has_pressure && !options.seed.is_multiple_of(3);
        let has_archives = has_pressure && !options.seed.is_multiple_of(2);
        let mut world = Self {
            now: Timestamp(1_000_000),
            queue: Queue::default(),
            streams: Streams::default(),
            storage: Storage::new(usize::from(partitions), &mut rng),
            coordinators: Vec::new(),
            workers: Vec::new(),
            clients: Vec::new(),
            requests: BTreeMap::new(),
            faults: Faults::new(&mut rng, has_standbys),
            oracle: Oracle::new(settings.clone()),
            digest: Digest::new(options.seed),
            report: Report::default(),
            settings,
            has_pressure,
            has_standbys,
            has_archives,
            options,
            next_leadership: 0,
            next_boot: 0,
            next_request: 0,
            rng,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        let n_coordinators = if chance(&mut self.rng, 40) { 1 } else { 2 };
        let n_coordinators = n_coordinators + usize::from(self.has_standbys);
        for ix in 0..n_coordinators {
            self.coordinators.push(Coordinator::down());
            self.queue.plan(self.now, SimEvent::CoordinatorStarts(ix));
        }
        for ix in 0..self.rng.usize(1..=4) {
            let worker = WorkerProcess::new(ix, &mut self.rng);
            self.workers.push(worker);
            self.queue.plan(self.now + ms(1), SimEvent::WorkerStarts(ix));
        }
        for ix in 0..self.rng.usize(1..=3) {
            let client = Client::new(ix, self.workers.len(), &mut self.rng);
            self.clients.push(client);
            self.queue.plan(self.now + ms(2), SimEvent::ClientActs(ix));
        }
        self.plan_faults();
    }

    fn run(mut self) -> Report {
        let limit = self.faults.heal_at + QUIESCE_MAX;
        while self.oracle.violation().is_none() && !self.is_at_rest() {
            let Some((at, event)) = self.queue.pop() else {
                self.oracle.object("I5", "no events are left");
                break;
            };
            self.now = at;
            self.oracle.set_now(at);
            if at > limit {
                let why = self.why_not_at_rest();
                self.oracle.object("I5", why);
                break;
            }
            self.report.n_events += 1;
            self.note(&event);
            self.handle_event(event);
        }
        if self.oracle.violation().is_none() {
            self.check_at_rest();
        }
        self.finish()
    }

    fn finish(mut self) -> Report {
        self.report.elapsed = Duration::from_micros(self.now.0);
        self.report.n_archived = self.oracle.n_archived;
        self.report.n_restored = self.oracle.n_restored;
        self.report.violation = self.oracle.violation().cloned();
        self.report.digest = self.digest.value();
        self.report
    }

    /// Adds an event to the digest and the trace.
    fn note(&mut self, event: &SimEvent) {
        self.digest.add(self.now.0);
        self.digest.add(self.rng.get_seed());
        if self.options.is_traced {
            self.trace(&format!("{event:?}"));
        }
    }

    fn trace(&mut self, line: &str) {
        if self.options.is_traced {
            let seconds = Duration::from_micros(self.now.0).as_secs_f64();
            let mut line = format!("{seconds:>12.6} {line}");
            let mut end = line.len().min(2000);
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            line.truncate(end);
            self.report.trace.push(line);
        }
    }

    fn handle_event(&mut self, event: SimEvent) {
        if let Some(until) = self.suspended_until(&event) {
            self.queue.plan(until, event);
            return;
        }
        match event {
            SimEvent::DeliverUp(stream) => self.deliver_up(stream),
            SimEvent::DeliverDown(stream) => self.deliver_down(stream),
            SimEvent::BrokenAtWorker(stream) => self.broken_at_worker(stream),
            SimEvent::BrokenAtCoordinator(stream) => self.broken_at_coordinator(stream),
            SimEvent::Turn { coordinator, leadership } => self.on_turn(coordinator, leadership),
            SimEvent::Renew { coordinator, leadership } => {
                self.on_renew_due(coordinator, leadership)
            }
            SimEvent::Campaign { coordinator, incarnation } => {
                self.campaign(coordinator, incarnation);
            }
            SimEvent::Follow { coordinator, incarnation } => {
                self.on_follow(coordinator, incarnation);
            }
            SimEvent::WaitOver { coordinator, leadership, partition } => {
                self.on_wait_over(coordinator, leadership, partition);
            }
            SimEvent::ArchivingDue { coordinator, leadership } => {
                self.on_archiving_due(coordinator, leadership);
            }
            SimEvent::Evaluated { coordinator, leadership, event }
            | SimEvent::Stored { coordinator, leadership, event } => {
                self.on_evaluated(coordinator, leadership, *event);
            }
            SimEvent::StoreAsked(request) => self.on_store_asked(*request),
            SimEvent::StoreAnswered { ask, answer } => self.on_store_answered(ask, *answer),
            SimEvent::StoreTimedOut(ask) => self.on_store_timed_out(ask),
            SimEvent::StoreReplicated { partition, op } => self.on_replicated(partition, op),
            SimEvent::WorkerTimer { worker, boot } => self.on_worker_timer(worker, boot),
            SimEvent::WorkerFlush { worker, boot } => self.on_worker_flush(worker, boot),
            SimEvent::WorkerMeasures { worker, boot } => self.on_worker_measures(worker, boot),
            SimEvent::WorkerConnect { worker, boot } => self.on_worker_connect(worker, boot),
            SimEvent::WorkerWatch { worker, stream } => self.on_worker_watch(worker, stream),
            SimEvent::AttemptBegins { worker, boot, token } => {
                self.on_attempt_begins(worker, boot, token);
            }
            SimEvent::AttemptEnds { worker, boot, token, is_stop } => {
                self.on_attempt_ends(worker, boot, token, is_stop);
            }
            SimEvent::WorkerStarts(worker) => self.start_worker(worker),
            SimEvent::CoordinatorStarts(coordinator) => self.start_coordinator(coordinator),
            SimEvent::ClientActs(client) => self.on_client_acts(client),
            SimEvent::ClientGivesUp { client, request } => self.on_client_gives_up(client, request),
            SimEvent::RequestArrives { coordinator, client, request, goal } => {
                self.on_request(coordinator, client, request, goal);
            }
            SimEvent::ReplyArrives { client, request, reply } => {
                self.on_reply(client, request, reply);
            }
            SimEvent::Fault => self.on_fault(),
            SimEvent::Heal => self.heal(),
        }
    }

    /// Returns until when the target of an event is suspended.
    fn suspended_until(&self, event: &SimEvent) -> Option<Timestamp> {
        let until = match event {
            SimEvent::DeliverUp(stream) | SimEvent::BrokenAtCoordinator(stream) => {
                self.coordinators[self.streams.get(*stream)?.coordinator].paused_until
            }
            SimEvent::DeliverDown(stream) | SimEvent::BrokenAtWorker(stream) => {
                self.workers[self.streams.get(*stream)?.worker].paused_until
            }
            SimEvent::Turn { coordinator, .. }
            | SimEvent::Renew { coordinator, .. }
            | SimEvent::Campaign { coordinator, .. }
            | SimEvent::Follow { coordinator, .. }
            | SimEvent::WaitOver { coordinator, .. }
            | SimEvent::Evaluated { coordinator, .. }
            | SimEvent::ArchivingDue { coordinator, .. }
            | SimEvent::Stored { coordinator, .. }
            | SimEvent::RequestArrives { coordinator, .. } => {
                self.coordinators[*coordinator].paused_until
            }
            SimEvent::StoreAnswered { ask, .. } | SimEvent::StoreTimedOut(ask) => {
                self.coordinators[self.storage.asker(*ask)?].paused_until
            }
            SimEvent::WorkerTimer { worker, .. }
            | SimEvent::WorkerFlush { worker, .. }
            | SimEvent::WorkerMeasures { worker, .. }
            | SimEvent::WorkerConnect { worker, .. }
            | SimEvent::WorkerWatch { worker, .. }
            | SimEvent::AttemptBegins { worker, .. }
            | SimEvent::AttemptEnds { worker, .. } => self.workers[*worker].paused_until,
            _ => return None,
        };
        (until > self.now).then_some(until)
    }

    /// Returns whether everything is done and every party knows it.
    fn is_at_rest(&self) -> bool {
        self.now > self.faults.heal_at
            && self.clients.iter().all(Client::is_done)
            && self.oracle.shadow().state().runs().all(|run| run.state.is_terminal())
            && self.workers.iter().all(WorkerProcess::is_at_rest)
            && self.storage.is_settled(&self.oracle)
            && self.leader().is_some_and(|leader| self.coordinators[leader].is_idle())
    }

    fn why_not_at_rest(&self) -> String {
        let shadow = self.oracle.shadow();
        let unfinished = shadow.state().runs().find(|run| !run.state.is_terminal());
        if let Some(run) = unfinished {
            let open = run.dag.tasks().find(|task| !run.cell(*task).state.is_terminal());
            let leader = self.leader().and_then(|leader| self.coordinators[leader].core());
            let why = open.and_then(|task| leader?.explain(run.id(), task));
            return format!("run {} is {}: {open:?} {why:?}", run.id(), run.state);
        }
        let clients: Vec<_> = self.clients.iter().filter_map(Client::pending).collect();
        format!(
            "all runs have ended, but clients {clients:?}, leader {:?}, workers {:?}",
            self.leader(),
            self.workers.iter().map(WorkerProcess::is_at_rest).collect::<Vec<_>>(),
        )
    }
}
