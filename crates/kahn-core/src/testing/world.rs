//! A core with virtual time and fake workers that are controlled by the test.
//!
//! All changes are durable immediately, and commands arrive immediately unless the worker is deaf.

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
use crate::timing::Timing;

/// More deadlines than any test needs; exceeding it means that the core never becomes idle.
const DEADLINES_MAX: usize = 100_000;

/// An attempt that a fake worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The token of its lease.
    pub token: Token,
    /// Whether the worker has reported its start.
    pub is_started: bool,
    /// Why the worker was told to stop it, if it was.
    pub stop: Option<StopReason>,
    /// Whether the worker was asked to return it.
    pub is_recalled: bool,
}

/// A worker that is controlled by the test.
#[derive(Clone, Debug)]
pub struct FakeWorker {
    /// The worker's id.
    pub id: WorkerId,
    /// Its boot id.
    pub boot: BootId,
    /// Its session, while it is attached.
    pub session: Option<SessionId>,
    /// Total capacity.
    pub capacity: Resources,
    /// Its labels.
    pub labels: Labels,
    /// The kinds of action that it can execute.
    pub executors: Vec<ActionKind>,
    /// Maximum number of leases that it holds at a time.
    pub leases_max: u32,
    /// The share of its capacity that it accepts.
    pub admission: Admission,
    /// The attempts that it holds.
    pub held: BTreeMap<AttemptId, Holding>,
    /// Reports that were not acknowledged.
    pub unacknowledged: Vec<WorkerReport>,
    /// Whether it sends no heartbeats.
    pub is_silent: bool,
    /// Whether it receives no messages.
    pub is_deaf: bool,
    /// Whether it was told to drain.
    pub is_draining: bool,
}

/// A core with its environment.
#[derive(Debug)]
pub struct World {
    /// The core.
    pub core: Core,
    /// The time of the next event.
    pub now: Timestamp,
    /// All changes that became durable.
    pub log: Vec<(Timestamp, Change)>,
    /// All timings.
    pub timings: Vec<Timing>,
    /// The workers, by name.
    pub workers: BTreeMap<String, FakeWorker>,
    /// Evaluations that were requested but not answered.
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
    /// Creates a world with default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    /// Creates a world with these settings, in its first term, at 1000 s.
    #[must_use]
    pub fn with(settings: Settings) -> Self {
        let mut world = Self {
            core: Core::new(settings.clone()),
            now: Timestamp(1_000_000_000),
            log: Vec::new(),
            timings: Vec::new(),
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
        self.process_step(step);
        self.place_all();
    }

    /// Handles one event, places tasks, and audits the state.
    ///
    /// # Errors
    ///
    /// Returns the core's refusal.
    ///
    /// # Panics
    ///
    /// Panics if the state is inconsistent afterwards.
    pub fn step(&mut self, event: Event) -> Result<(), Refusal> {
        let step = self.core.handle(self.now, event)?;
        self.process_step(step);
        self.place_all();
        Ok(())
    }

    /// Handles an event that must not be refused.
    ///
    /// # Panics
    ///
    /// Panics if the event is refused.
    pub fn accept(&mut self, event: Event) {
        self.step(event).expect("the event is possible");
    }

    fn place_all(&mut self) {
        loop {
            let step = self.core.place(self.now);
            self.process_step(step);
            if !self.core.has_more_to_place() {
                break;
            }
        }
        let findings = self.core.audit();
        assert!(findings.is_empty(), "the audit found: {findings:#?}");
    }

    fn process_step(&mut self, step: Step) {
        let at = self.core.state().now();
        self.timings.extend_from_slice(self.core.timings());
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
            worker.on_command(command);
        }
    }

    /// Returns the commands since the last call.
    pub fn take(&mut self) -> Vec<Command> {
        self.n_taken += self.commands.len();
        std::mem::take(&mut self.commands)
    }

    /// Returns the commands since the last call, except notifications of watchers.
    pub fn take_orders(&mut self) -> Vec<Command> {
        let mut orders = self.take();
        orders.retain(|command| !matches!(command, Command::Notify { .. }));
        orders
    }

    /// Asserts that all commands were taken.
    ///
    /// # Panics
    ///
    /// Panics if any are left.
    pub fn assert_nothing_left(&mut self) {
        let left = self.take_orders();
        assert!(left.is_empty(), "commands are left over: {left:#?}");
    }

    /// Advances the time. Timers fire when they are due, and workers that are not silent send
    /// heartbeats.
    ///
    /// # Panics
    ///
    /// Panics if the core never becomes idle.
    pub fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..DEADLINES_MAX {
            let due = self.core.next_deadline().filter(|due| *due <= end);
            let Some(due) = due else {
                self.now = end;
                return;
            };
            self.now = self.now.max(due);
            self.send_heartbeats();
            self.accept(Event::DeadlineReached);
        }
        panic!("deadlines never end");
    }

    /// Sends a heartbeat from every attached worker that is not silent.
    pub fn send_heartbeats(&mut self) {
        let lively = self.workers.values().filter(|worker| !worker.is_silent);
        let sessions: Vec<_> = lively.filter_map(|worker| worker.session).collect();
        for session in sessions {
            self.accept(Event::Heartbeat { session });
        }
    }

    /// Attaches a new worker with this capacity that can execute everything.
    pub fn attach(&mut self, name: &str, capacity: &str) {
        self.attach_with(name, capacity, &[], 1_000);
    }

    /// Attaches a new worker.
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

    /// Opens a new stream of a worker, which reports what it holds.
    pub fn reattach(&mut self, name: &str) {
        self.n_sessions += 1;
        let session = SessionId(self.n_sessions);
        let worker = self.worker_mut(name);
        worker.session = Some(session);
        worker.is_deaf = false;
        worker.is_silent = false;
        let attachment = worker.attachment(session);
        self.accept(Event::WorkerAttached(Box::new(attachment)));
    }

    /// Ends a worker's stream.
    pub fn detach(&mut self, name: &str) {
        if let Some(session) = self.worker_mut(name).session.take() {
            self.accept(Event::WorkerDetached { session });
        }
    }

    /// Restarts a worker process: it holds nothing but its saved reports.
    pub fn reboot(&mut self, name: &str) {
        self.n_boots += 1;
        let boot = BootId(self.n_boots);
        let worker = self.worker_mut(name);
        worker.boot = boot;
        worker.held.clear();
        worker.is_draining = false;
        self.reattach(name);
    }

    /// Reports the start of an attempt that the worker holds.
    pub fn start(&mut self, name: &str, attempt: AttemptId) {
        let holding = self.worker_mut(name).held.get_mut(&attempt).expect("it holds the attempt");
        holding.is_started = true;
        let report = WorkerReport { attempt, token: holding.token, kind: ReportKind::Started };
        self.report(name, report);
    }

    /// Ends an attempt on a worker.
    pub fn finish(&mut self, name: &str, attempt: AttemptId, outcome: Result<Outputs, Failure>) {
        self.finish_after(name, attempt, outcome, Duration::from_millis(15));
    }

    /// Ends an attempt on a worker after this duration.
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

    /// Returns an attempt from a worker.
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

    /// Sends a report from a worker, if it is attached.
    pub fn report(&mut self, name: &str, report: WorkerReport) {
        let Some(session) = self.worker_mut(name).session else { return };
        self.accept(Event::Reported { session, report: Box::new(report) });
    }

    /// Submits a run in the default namespace.
    pub fn submit(&mut self, dag: &Arc<Dag>) -> RunId {
        self.submit_for("default", dag)
    }

    /// Submits a run in a namespace.
    pub fn submit_for(&mut self, namespace: &str, dag: &Arc<Dag>) -> RunId {
        self.n_runs += 1;
        let submission = Arc::new(submission(self.n_runs, namespace, dag));
        let run = submission.run;
        self.accept(Event::Submitted(submission));
        run
    }

    /// Starts a new coordinator `pause` after the current one failed. All streams end.
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

    /// Runs everything to completion: workers attach, evaluations and attempts succeed, time
    /// advances.
    ///
    /// # Panics
    ///
    /// Panics if a run does not end.
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

    /// Describes why the tasks of unfinished runs have not ended.
    fn stuck(&self) -> Vec<String> {
        let state = self.core.state();
        let open = state.runs().filter(|run| !run.state.is_terminal());
        open.flat_map(|run| run.dag.tasks().map(move |task| (run, task)))
            .filter(|(run, task)| !run.cell(*task).state.is_terminal())
            .take(20)
            .map(|(run, task)| format!("{task:?} {:?}", self.core.explain(run.id(), task)))
            .collect()
    }

    /// Returns a run.
    ///
    /// # Panics
    ///
    /// Panics if the run does not exist.
    #[must_use]
    pub fn run(&self, run: RunId) -> &Run {
        self.core.state().run(run).expect("the run exists")
    }

    /// Returns the state of a task.
    #[must_use]
    pub fn task_state(&self, run: RunId, task: &str) -> TaskState {
        self.run(run).cell(self.task(run, task)).state
    }

    /// Returns the task with this name.
    ///
    /// # Panics
    ///
    /// Panics if the task does not exist.
    #[must_use]
    pub fn task(&self, run: RunId, task: &str) -> TaskIx {
        self.run(run).dag.task_by_name(task).expect("the task exists")
    }

    /// Returns the attempt at a task that a worker holds, if any.
    #[must_use]
    pub fn held(&self, name: &str, run: RunId, task: &str) -> Option<AttemptId> {
        let task = self.task(run, task);
        self.workers[name].held.keys().rev().find(|a| a.run == run && a.task == task).copied()
    }

    /// Returns a worker.
    ///
    /// # Panics
    ///
    /// Panics if the worker does not exist.
    pub fn worker_mut(&mut self, name: &str) -> &mut FakeWorker {
        self.workers.get_mut(name).expect("the worker exists")
    }
}

impl FakeWorker {
    /// Returns what a worker reports when it opens a stream.
    #[must_use]
    pub fn attachment(&self, session: SessionId) -> Attachment {
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

    fn on_command(&mut self, command: &Command) {
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

/// Returns the submission of run number `n`.
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

/// Returns the id of the worker with this name.
///
/// # Panics
///
/// Panics if the name is invalid.
#[must_use]
pub fn worker_id(name: &str) -> WorkerId {
    name.parse().expect("a test uses valid names")
}

/// Returns the failure of a process that exited with this code.
#[must_use]
pub fn exit_code(code: i32) -> Failure {
    Failure::new(Cause::exit_code(code), "")
}
