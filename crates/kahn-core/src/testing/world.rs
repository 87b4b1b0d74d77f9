//! A core, virtual time, and fake workers that do only what a test tells them to.
//!
//! Whatever is decided is durable at once and commands arrive at once, unless a worker is deaf.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kahn_model::{
    ActionKind, Admission, AttemptId, BootId, Cause, Dag, Failure, Labels, Namespace, Outputs,
    Resources, RunId, TaskIx, TaskState, Timestamp, Token, Usage, Uuid, WorkerId,
};

use super::dag::resources;
use crate::change::{Change, Submission};
use crate::command::{Command, StopReason};
use crate::core::{Core, Step};
use crate::event::{Attachment, Event, Held, ReportKind, SessionId, WorkerReport};
use crate::log::Term;
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::state::Run;

/// More deadlines than any test needs: past these the core does not come to rest.
const DEADLINES_MAX: usize = 100_000;

/// An attempt that a fake worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The token of its lease.
    pub token: Token,
    /// Whether the worker has reported it started.
    pub is_started: bool,
    /// Why the worker was told to stop it, if it was.
    pub stop: Option<StopReason>,
    /// Whether the worker was asked to give it back.
    pub is_recalled: bool,
}

/// A worker that does only what a test tells it to.
#[derive(Clone, Debug)]
pub struct FakeWorker {
    /// Who it is.
    pub id: WorkerId,
    /// Which start of it.
    pub boot: BootId,
    /// Its stream, while it has one.
    pub session: Option<SessionId>,
    /// All it has.
    pub capacity: Resources,
    /// What it says of itself.
    pub labels: Labels,
    /// What it can carry out.
    pub executors: Vec<ActionKind>,
    /// Most leases that it holds at one time.
    pub leases_max: u32,
    /// How much of its capacity it accepts.
    pub admission: Admission,
    /// The attempts that it holds.
    pub held: BTreeMap<AttemptId, Holding>,
    /// Results that were never acknowledged.
    pub unacknowledged: Vec<WorkerReport>,
    /// It sends no heartbeats.
    pub is_silent: bool,
    /// Nothing that is sent to it arrives.
    pub is_deaf: bool,
    /// It was told to drain.
    pub is_draining: bool,
}

/// A core with everything around it.
#[derive(Debug)]
pub struct World {
    /// The core.
    pub core: Core,
    /// The time of the next event.
    pub now: Timestamp,
    /// Everything that became durable.
    pub log: Vec<(Timestamp, Change)>,
    /// The workers, by name.
    pub workers: BTreeMap<String, FakeWorker>,
    /// Evaluations that were asked for and not answered.
    pub evaluations: Vec<(RunId, TaskIx)>,
    commands: Vec<Command>,
    n_taken: usize,
    settings: Settings,
    n_runs: u128,
    n_sessions: u64,
    n_boots: u64,
    epoch: u64,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A world in which an operator chose nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    /// A world with these settings, in its first term, at 1000 s.
    #[must_use]
    pub fn with(settings: Settings) -> Self {
        let mut world = Self {
            core: Core::new(settings.clone()),
            now: Timestamp(1_000_000_000),
            log: Vec::new(),
            workers: BTreeMap::new(),
            evaluations: Vec::new(),
            commands: Vec::new(),
            n_taken: 0,
            settings,
            n_runs: 0,
            n_sessions: 0,
            n_boots: 0,
            epoch: 0,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.epoch += 1;
        let term = Term { epoch: self.epoch, nonce: self.epoch * 7 };
        let step = self.core.begin(self.now, term);
        self.absorb(step);
        self.settle();
    }

    /// Lets one event happen, places what can be placed, and audits.
    ///
    /// # Errors
    ///
    /// What the core refuses.
    ///
    /// # Panics
    ///
    /// When the state contradicts itself afterwards.
    pub fn step(&mut self, event: Event) -> Result<(), Refusal> {
        let outcome = self.core.handle(self.now, event).map(|step| self.absorb(step));
        self.settle();
        outcome
    }

    /// Lets an event happen that must not be refused.
    ///
    /// # Panics
    ///
    /// When it is.
    pub fn accept(&mut self, event: Event) {
        self.step(event).expect("the event is possible");
    }

    fn settle(&mut self) {
        loop {
            let step = self.core.place(self.now);
            self.absorb(step);
            if !self.core.has_more_to_place() {
                break;
            }
        }
        let findings = self.core.audit();
        assert!(findings.is_empty(), "the audit found: {findings:#?}");
    }

    fn absorb(&mut self, step: Step) {
        let at = self.core.state().now();
        self.log.extend(step.changes.into_iter().map(|change| (at, change)));
        for command in step.commands {
            self.deliver(&command);
            self.commands.push(command);
        }
    }

    fn deliver(&mut self, command: &Command) {
        if let Command::Evaluate { run, task } = command {
            self.evaluations.push((*run, *task));
        }
        let Some(session) = session_of(command) else { return };
        let found = self.workers.values_mut().find(|worker| worker.session == Some(session));
        if let Some(worker) = found.filter(|worker| !worker.is_deaf) {
            worker.hear(command);
        }
    }

    /// The commands since the last call.
    pub fn take(&mut self) -> Vec<Command> {
        self.n_taken += self.commands.len();
        std::mem::take(&mut self.commands)
    }

    /// The commands since the last call, without those that say only that there is more to see.
    pub fn take_orders(&mut self) -> Vec<Command> {
        let mut orders = self.take();
        orders.retain(|command| !matches!(command, Command::Notify { .. }));
        orders
    }

    /// Asserts that no command is left that was not taken.
    ///
    /// # Panics
    ///
    /// When one is.
    pub fn assert_nothing_left(&mut self) {
        let left = self.take_orders();
        assert!(left.is_empty(), "commands are left over: {left:#?}");
    }

    /// Lets time pass. What is due happens when it is due, and workers that are not silent are
    /// heard from before.
    ///
    /// # Panics
    ///
    /// When the core never comes to rest.
    pub fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..DEADLINES_MAX {
            let due = self.core.next_deadline().filter(|due| *due <= end);
            let Some(due) = due else {
                self.now = end;
                return;
            };
            self.now = self.now.max(due);
            self.beat();
            self.accept(Event::DeadlineReached);
        }
        panic!("deadlines never end");
    }

    /// Every attached worker that is not silent is heard from.
    pub fn beat(&mut self) {
        let lively = self.workers.values().filter(|worker| !worker.is_silent);
        let sessions: Vec<_> = lively.filter_map(|worker| worker.session).collect();
        for session in sessions {
            self.accept(Event::Heartbeat { session });
        }
    }

    /// A new worker with this capacity, that can do everything, opens a stream.
    pub fn attach(&mut self, name: &str, capacity: &str) {
        self.attach_with(name, capacity, &[], 1_000);
    }

    /// A new worker opens a stream.
    pub fn attach_with(
        &mut self,
        name: &str,
        capacity: &str,
        labels: &[(&str, &str)],
        leases_max: u32,
    ) {
        self.n_boots += 1;
        let worker = FakeWorker {
            id: worker_id(name),
            boot: BootId(self.n_boots),
            session: None,
            capacity: resources(capacity),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            executors: ActionKind::ALL.to_vec(),
            leases_max,
            admission: Admission::default(),
            held: BTreeMap::new(),
            unacknowledged: Vec::new(),
            is_silent: false,
            is_deaf: false,
            is_draining: false,
        };
        self.workers.insert(name.to_owned(), worker);
        self.reattach(name);
    }

    /// A worker opens a stream again, and says what it holds.
    pub fn reattach(&mut self, name: &str) {
        self.n_sessions += 1;
        let session = SessionId(self.n_sessions);
        let worker = self.worker_mut(name);
        worker.session = Some(session);
        worker.is_deaf = false;
        worker.is_silent = false;
        let attachment = worker.introduce(session);
        self.accept(Event::WorkerAttached(Box::new(attachment)));
    }

    /// A worker's stream ends.
    pub fn detach(&mut self, name: &str) {
        if let Some(session) = self.worker_mut(name).session.take() {
            self.accept(Event::WorkerDetached { session });
        }
    }

    /// A worker process starts anew: it holds nothing, and has the results that it wrote down.
    pub fn reboot(&mut self, name: &str) {
        self.n_boots += 1;
        let boot = BootId(self.n_boots);
        let worker = self.worker_mut(name);
        worker.boot = boot;
        worker.held.clear();
        worker.is_draining = false;
        self.reattach(name);
    }

    /// A worker reports on an attempt that it holds.
    pub fn start(&mut self, name: &str, attempt: AttemptId) {
        let holding = self.worker_mut(name).held.get_mut(&attempt).expect("it holds the attempt");
        holding.is_started = true;
        let report = WorkerReport { attempt, token: holding.token, kind: ReportKind::Started };
        self.report(name, report);
    }

    /// An attempt ends on a worker.
    pub fn finish(&mut self, name: &str, attempt: AttemptId, outcome: Result<Outputs, Failure>) {
        self.finish_after(name, attempt, outcome, Duration::from_millis(15));
    }

    /// An attempt that took so long ends on a worker.
    pub fn finish_after(
        &mut self,
        name: &str,
        attempt: AttemptId,
        outcome: Result<Outputs, Failure>,
        elapsed: Duration,
    ) {
        let usage = Usage { elapsed, ..Usage::default() };
        self.end(name, attempt, ReportKind::Finished { outcome, usage });
    }

    /// A worker gives an attempt back.
    pub fn give_back(&mut self, name: &str, attempt: AttemptId) {
        self.end(name, attempt, ReportKind::Returned);
    }

    fn end(&mut self, name: &str, attempt: AttemptId, kind: ReportKind) {
        let worker = self.worker_mut(name);
        let holding = worker.held.remove(&attempt).expect("it holds the attempt");
        let report = WorkerReport { attempt, token: holding.token, kind };
        worker.unacknowledged.push(report.clone());
        self.report(name, report);
    }

    /// A worker sends a report, if it has a stream.
    pub fn report(&mut self, name: &str, report: WorkerReport) {
        let Some(session) = self.worker_mut(name).session else { return };
        self.accept(Event::Reported { session, report: Box::new(report) });
    }

    /// Takes on a run in the default namespace.
    pub fn submit(&mut self, dag: &Arc<Dag>) -> RunId {
        self.submit_for("default", dag)
    }

    /// Takes on a run in a namespace.
    pub fn submit_for(&mut self, namespace: &str, dag: &Arc<Dag>) -> RunId {
        self.n_runs += 1;
        let submission = Arc::new(submission(self.n_runs, namespace, dag));
        let run = submission.run;
        self.accept(Event::Submitted(submission));
        run
    }

    /// The coordinator dies and another takes over after `pause`. All streams end.
    pub fn take_over(&mut self, pause: Duration) {
        let mut core = Core::new(self.settings.clone());
        for (at, change) in &self.log {
            core.replay(*at, change);
        }
        self.core = core;
        self.now = self.now + pause;
        self.evaluations.clear();
        for worker in self.workers.values_mut() {
            worker.session = None;
        }
        self.begin();
    }

    /// Lets everything end well: streams open, evaluations say yes, attempts succeed, time passes.
    ///
    /// # Panics
    ///
    /// When a run does not end.
    pub fn finish_all(&mut self) {
        for _ in 0..DEADLINES_MAX {
            if self.core.state().runs().all(|run| run.state.is_terminal()) {
                return;
            }
            self.finish_round();
        }
        panic!("a run never ends: {:#?}", self.stuck());
    }

    fn finish_round(&mut self) {
        let names: Vec<String> = self.workers.keys().cloned().collect();
        let mut has_acted = false;
        for name in &names {
            if self.workers[name].session.is_none() {
                self.reattach(name);
                has_acted = true;
            }
            while let Some(attempt) = self.workers[name].held.keys().next().copied() {
                has_acted = true;
                self.finish(name, attempt, Ok(Outputs::default()));
            }
        }
        for (run, task) in std::mem::take(&mut self.evaluations) {
            has_acted = true;
            self.accept(Event::Evaluated { run, task, outcome: Ok(None) });
        }
        if !has_acted {
            let due = self.core.next_deadline();
            assert!(due.is_some(), "nothing is left to wait for: {:#?}", self.stuck());
            let span = due.unwrap_or(self.now).since(self.now);
            self.wait(span);
        }
    }

    /// Why the tasks of unfinished runs have not ended.
    fn stuck(&self) -> Vec<String> {
        let state = self.core.state();
        let open = state.runs().filter(|run| !run.state.is_terminal());
        open.flat_map(|run| run.dag.tasks().map(move |task| (run, task)))
            .filter(|(run, task)| !run.cell(*task).state.is_terminal())
            .take(20)
            .map(|(run, task)| format!("{task:?} {:?}", self.core.explain(run.id(), task)))
            .collect()
    }

    /// A run.
    ///
    /// # Panics
    ///
    /// When there is no such run.
    #[must_use]
    pub fn run(&self, run: RunId) -> &Run {
        self.core.state().run(run).expect("the run exists")
    }

    /// Where a task of a run stands.
    #[must_use]
    pub fn task_state(&self, run: RunId, task: &str) -> TaskState {
        self.run(run).cell(self.task(run, task)).state
    }

    /// The task of a run that has this name.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn task(&self, run: RunId, task: &str) -> TaskIx {
        self.run(run).dag.task_by_name(task).expect("the task exists")
    }

    /// The attempt at a task that a worker holds, if it does.
    #[must_use]
    pub fn held(&self, name: &str, run: RunId, task: &str) -> Option<AttemptId> {
        let task = self.task(run, task);
        self.workers[name].held.keys().rev().find(|a| a.run == run && a.task == task).copied()
    }

    /// A worker.
    ///
    /// # Panics
    ///
    /// When there is no such worker.
    pub fn worker_mut(&mut self, name: &str) -> &mut FakeWorker {
        self.workers.get_mut(name).expect("the worker exists")
    }
}

impl FakeWorker {
    /// What it says when it opens a stream.
    #[must_use]
    pub fn introduce(&self, session: SessionId) -> Attachment {
        let held = self
            .held
            .iter()
            .map(|(attempt, holding)| Held {
                attempt: *attempt,
                token: holding.token,
                is_started: holding.is_started,
            })
            .collect();
        Attachment {
            session,
            worker: self.id.clone(),
            boot: self.boot,
            capacity: self.capacity.clone(),
            leases_max: self.leases_max,
            labels: self.labels.clone(),
            executors: self.executors.clone(),
            admission: self.admission,
            held,
            unacknowledged: self.unacknowledged.clone(),
        }
    }

    fn hear(&mut self, command: &Command) {
        match command {
            Command::Grant { grant, .. } => {
                let token = grant.token;
                let holding = Holding { token, is_started: false, stop: None, is_recalled: false };
                self.held.insert(grant.attempt, holding);
            }
            Command::Stop { attempt, reason, token, .. } => {
                if let Some(holding) = self.holding_under(*attempt, *token) {
                    holding.stop = Some(*reason);
                }
            }
            Command::Recall { attempt, token, .. } => {
                if let Some(holding) = self.holding_under(*attempt, *token) {
                    holding.is_recalled = true;
                }
            }
            Command::Acknowledge { token, .. } => {
                self.unacknowledged.retain(|report| report.token != *token);
            }
            Command::Disconnect { .. } => self.session = None,
            Command::Drain { .. } => self.is_draining = true,
            Command::Welcome { .. } | Command::Evaluate { .. } | Command::Notify { .. } => {}
        }
    }

    fn holding_under(&mut self, attempt: AttemptId, token: Token) -> Option<&mut Holding> {
        self.held.get_mut(&attempt).filter(|holding| holding.token == token)
    }
}

fn session_of(command: &Command) -> Option<SessionId> {
    match command {
        Command::Grant { session, .. }
        | Command::Stop { session, .. }
        | Command::Recall { session, .. }
        | Command::Acknowledge { session, .. }
        | Command::Welcome { session }
        | Command::Disconnect { session }
        | Command::Drain { session } => Some(*session),
        Command::Evaluate { .. } | Command::Notify { .. } => None,
    }
}

/// The submission of run number `n`.
#[must_use]
pub fn submission(n: u128, namespace: &str, dag: &Arc<Dag>) -> Submission {
    Submission {
        run: RunId::new(Uuid::from_u128(n)),
        namespace: namespace.parse::<Namespace>().expect("a test uses valid names"),
        dag: Arc::clone(dag),
        params: BTreeMap::new(),
        digest: n.to_be_bytes(),
        labels: BTreeMap::new(),
    }
}

/// The worker with this name.
///
/// # Panics
///
/// When that is no name.
#[must_use]
pub fn worker_id(name: &str) -> WorkerId {
    name.parse().expect("a test uses valid names")
}

/// The failure of a process that ended with this code.
#[must_use]
pub fn exit_code(code: i32) -> Failure {
    Failure::new(Cause::exit_code(code), "")
}
