//! Worker processes with fake executors: attempts take a random time and have a random outcome.
//! Every action of an executor is recorded in the oracle's journal at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use kahn_core::{Grant, StopReason as CoordinatorStop};
use kahn_model::{
    BootId, Cause, CauseKind, Dag, Failure, Labels, Outputs, Resource, Resources, Timestamp, Token,
    Usage, Value, WorkerId,
};
use kahn_worker_core::{Command, Event, Lease, Outcome, Report, Settings, StopReason, WorkerCore};

use super::network::{Down, StreamId, Up};
use super::{SimEvent, World};
use crate::oracle::Start;
use crate::queue::us;
use crate::workload::{self, chance, span};

/// A worker that receives nothing for this long connects to another coordinator.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum time in milliseconds until a stopped attempt is dead.
const STOP_MS: u64 = 150;

/// The work that is passed to an executor.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    dag: Arc<Dag>,
    timed_out: u32,
}

/// An attempt in an executor.
#[derive(Debug)]
struct Execution {
    lease: Lease<Job>,
    began_at: Option<Timestamp>,
    outcome: Outcome,
    is_stopping: bool,
}

/// One worker, across restarts.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    pub(crate) id: WorkerId,
    pub(crate) boot: BootId,
    pub(crate) capacity: Resources,
    pub(crate) labels: Labels,
    pub(crate) leases_max: u32,
    pub(crate) paused_until: Timestamp,
    pub(crate) is_up: bool,
    core: WorkerCore<Job>,
    /// Survives a crash of the process.
    spool: BTreeMap<Token, Report>,
    executions: BTreeMap<Token, Execution>,
    stream: Option<StreamId>,
    heard_at: Timestamp,
    next_coordinator: usize,
    timer_at: Option<Timestamp>,
    is_flush_planned: bool,
    clock_origin: u64,
    /// The drift of its clock, in parts per million. Positive values run fast.
    clock_drift: i64,
}

impl WorkerProcess {
    pub(crate) fn new(ix: usize, rng: &mut Rng) -> Self {
        let id = WorkerId::new(workload::name(&format!("w{ix}")));
        Self {
            id,
            boot: BootId(0),
            capacity: workload::capacity(rng),
            labels: workload::labels(rng),
            leases_max: rng.u32(2..=64),
            paused_until: Timestamp::ZERO,
            is_up: false,
            core: WorkerCore::new(Settings::default(), Vec::new()),
            spool: BTreeMap::new(),
            executions: BTreeMap::new(),
            stream: None,
            heard_at: Timestamp::ZERO,
            next_coordinator: 0,
            timer_at: None,
            is_flush_planned: false,
            clock_origin: rng.u64(..1 << 40),
            clock_drift: rng.i64(-10_000..=10_000),
        }
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_up && self.core.n_held() == 0 && self.core.n_unacknowledged() == 0
    }

    /// Returns the time of its own monotonic clock.
    fn local(&self, now: Timestamp) -> Timestamp {
        let drift = i128::from(now.0) * i128::from(self.clock_drift) / 1_000_000;
        let ticks = i128::from(now.0) + i128::from(self.clock_origin) + drift;
        Timestamp(u64::try_from(ticks).expect("invariant: clocks start above zero"))
    }

    /// Returns the real time at which its clock reaches `local`, or just after.
    fn real(&self, local: Timestamp) -> Timestamp {
        let since = i128::from(local.0) - i128::from(self.clock_origin);
        let ticks = since * 1_000_000 / (1_000_000 + i128::from(self.clock_drift));
        Timestamp(u64::try_from(ticks + 2).unwrap_or(0))
    }
}

impl World {
    pub(super) fn start_worker(&mut self, ix: usize) {
        if self.workers[ix].is_up {
            return;
        }
        self.next_boot += 1;
        let boot = BootId(self.next_boot);
        let worker = &mut self.workers[ix];
        let settings = Settings { capacity: worker.capacity.clone(), ..Settings::default() };
        worker.core = WorkerCore::new(settings, worker.spool.values().cloned().collect());
        worker.boot = boot;
        worker.is_up = true;
        worker.stream = None;
        worker.timer_at = None;
        worker.is_flush_planned = false;
        self.queue.plan(self.now, SimEvent::WorkerConnect { worker: ix, boot });
        if self.has_pressure {
            self.queue.plan(self.now, SimEvent::WorkerMeasures { worker: ix, boot });
        }
    }

    /// Measures the pressure on a worker, which varies at random. Once all faults have ended,
    /// shares no longer change: however small they are, every run must end.
    pub(super) fn on_worker_measures(&mut self, ix: usize, boot: BootId) {
        if !self.is_boot(ix, boot) || self.now > self.faults.heal_at {
            return;
        }
        let sample = workload::sample(&mut self.rng);
        self.feed_worker(ix, Event::Measured(sample));
        let at = self.now + span(&mut self.rng, 20, 400);
        self.queue.plan(at, SimEvent::WorkerMeasures { worker: ix, boot });
    }

    /// Checks that the coordinator knows the share that each worker accepts.
    pub(super) fn check_shares(&mut self, leader: usize) {
        for ix in 0..self.workers.len() {
            let worker = &self.workers[ix];
            let coordinator = &self.coordinators[leader];
            let is_quiet = worker.stream.is_some_and(|stream| {
                let is_taken = coordinator.streams.contains(&stream);
                let is_latest = coordinator.latest.get(&ix) == Some(&stream);
                is_taken && is_latest && self.streams.is_quiet(stream)
            });
            let known = coordinator.core().and_then(|core| core.state().worker(&worker.id));
            let believed = known.map(|known| known.admission.share);
            let share = worker.core.share();
            if is_quiet && coordinator.inbox.is_empty() && believed != Some(share) {
                let id = &worker.id;
                let message = format!("worker {id} accepts {share}, not {believed:?}");
                self.oracle.object("I13", message);
            }
        }
    }

    /// Crashes the process and all its executions. The spool remains.
    pub(super) fn crash_worker(&mut self, ix: usize) {
        let worker = &mut self.workers[ix];
        worker.is_up = false;
        worker.paused_until = Timestamp::ZERO;
        worker.executions.clear();
        let (id, boot, stream) = (worker.id.clone(), worker.boot, worker.stream.take());
        self.oracle.died(&id, boot);
        if let Some(stream) = stream {
            self.lose_worker_end(stream);
        }
    }

    /// Suspends the process and all its executions.
    pub(super) fn pause_worker(&mut self, ix: usize, until: Timestamp) {
        self.workers[ix].paused_until = until;
        let id = self.workers[ix].id.clone();
        self.oracle.note_suspension(&id, until);
    }

    fn is_boot(&self, ix: usize, boot: BootId) -> bool {
        self.workers[ix].is_up && self.workers[ix].boot == boot
    }

    pub(super) fn on_worker_connect(&mut self, ix: usize, boot: BootId) {
        if !self.is_boot(ix, boot) || self.workers[ix].stream.is_some() {
            return;
        }
        let n = self.coordinators.len();
        let target = self.workers[ix].next_coordinator % n;
        self.workers[ix].next_coordinator += 1;
        if !self.coordinators[target].is_leading() {
            let at = self.now + span(&mut self.rng, 20, 300);
            self.queue.plan(at, SimEvent::WorkerConnect { worker: ix, boot });
            return;
        }
        // It reconnects to this one first.
        self.workers[ix].next_coordinator = target;
        let stream = self.open_stream(ix, target);
        self.workers[ix].stream = Some(stream);
        self.workers[ix].heard_at = self.now;
        self.queue.plan(self.now + SILENCE_TIMEOUT, SimEvent::WorkerWatch { worker: ix, stream });
        self.feed_worker(ix, Event::Connected);
    }

    pub(super) fn on_worker_watch(&mut self, ix: usize, stream: StreamId) {
        if self.workers[ix].stream != Some(stream) {
            return;
        }
        let due = self.workers[ix].heard_at + SILENCE_TIMEOUT;
        if self.now < due {
            self.queue.plan(due, SimEvent::WorkerWatch { worker: ix, stream });
            return;
        }
        self.close_at_worker(stream);
        self.workers[ix].next_coordinator += 1;
        self.worker_lost_stream(ix, stream);
    }

    pub(super) fn worker_lost_stream(&mut self, ix: usize, stream: StreamId) {
        if self.workers[ix].stream != Some(stream) {
            return;
        }
        self.workers[ix].stream = None;
        self.feed_worker(ix, Event::Disconnected);
        if !self.workers[ix].is_up {
            return;
        }
        if chance(&mut self.rng, 40) {
            self.workers[ix].next_coordinator += 1;
        }
        let boot = self.workers[ix].boot;
        let at = self.now + span(&mut self.rng, 0, 200);
        self.queue.plan(at, SimEvent::WorkerConnect { worker: ix, boot });
    }

    /// Handles a message from the coordinator.
    pub(super) fn on_down(&mut self, id: StreamId, message: Down) {
        let Some(ix) = self.streams.get(id).map(|stream| stream.worker) else { return };
        if self.workers[ix].stream != Some(id) || !self.workers[ix].is_up {
            return;
        }
        match message {
            Down::Welcome => {
                self.workers[ix].heard_at = self.now;
                let lease_ttl = self.settings.lease_ttl;
                self.feed_worker(ix, Event::Welcomed { lease_ttl });
            }
            Down::HeartbeatNoted(number) => {
                self.workers[ix].heard_at = self.now;
                self.feed_worker(ix, Event::HeartbeatAcknowledged { number });
            }
            Down::Lease(grant) => self.feed_worker(ix, Event::Leased(lease(*grant))),
            Down::Stop(token, reason) => {
                let reason = stop_reason(reason);
                self.feed_worker(ix, Event::StopRequested { token, reason });
            }
            Down::Recall(token) => self.feed_worker(ix, Event::RecallRequested { token }),
            Down::Acknowledge(token) => self.acknowledge(ix, token),
            Down::Drain => self.feed_worker(ix, Event::DrainRequested),
            Down::End => {
                self.close_at_worker(id);
                self.worker_lost_stream(ix, id);
            }
        }
    }

    fn acknowledge(&mut self, ix: usize, token: Token) {
        let kept = self.workers[ix].spool.get(&token).map(|report| report.kind.clone());
        if let Some(kahn_worker_core::ReportKind::Finished { outcome, .. }) = kept {
            self.oracle.report_acknowledged(token, &outcome);
        }
        self.feed_worker(ix, Event::Acknowledged { token });
    }

    /// Passes an event to the worker's core and carries out its commands.
    fn feed_worker(&mut self, ix: usize, event: Event<Job>) {
        if !self.workers[ix].is_up {
            return;
        }
        let local = self.workers[ix].local(self.now);
        for command in self.workers[ix].core.handle(local, event) {
            self.execute_command(ix, command);
        }
        if !self.workers[ix].is_up {
            return;
        }
        let worker = &mut self.workers[ix];
        if let Some(due) = worker.core.reports_due()
            && !worker.is_flush_planned
        {
            worker.is_flush_planned = true;
            let boot = worker.boot;
            let at = worker.real(due).max(self.now) + us(self.rng.u64(0..=1500));
            self.queue.plan(at, SimEvent::WorkerFlush { worker: ix, boot });
        }
        self.plan_worker_timer(ix);
    }

    fn plan_worker_timer(&mut self, ix: usize) {
        let worker = &mut self.workers[ix];
        let Some(due) = worker.core.next_deadline() else { return };
        let at = worker.real(due).max(self.now);
        if worker.timer_at.is_none_or(|planned| at < planned) {
            worker.timer_at = Some(at);
            let boot = worker.boot;
            self.queue.plan(at, SimEvent::WorkerTimer { worker: ix, boot });
        }
    }

    pub(super) fn on_worker_timer(&mut self, ix: usize, boot: BootId) {
        let is_due = self.workers[ix].timer_at.is_some_and(|at| at <= self.now);
        if self.is_boot(ix, boot) && is_due {
            self.workers[ix].timer_at = None;
            self.feed_worker(ix, Event::DeadlineReached);
        }
    }

    pub(super) fn on_worker_flush(&mut self, ix: usize, boot: BootId) {
        if !self.is_boot(ix, boot) {
            return;
        }
        self.workers[ix].is_flush_planned = false;
        let Some(stream) = self.workers[ix].stream else { return };
        let reports = self.workers[ix].core.take_reports(64);
        if !reports.is_empty() {
            self.send_up(stream, Up::Reports(reports));
        }
    }

    fn execute_command(&mut self, ix: usize, command: Command<Job>) {
        let stream = self.workers[ix].stream;
        match command {
            Command::SendInventory(inventory) => {
                let boot = self.workers[ix].boot;
                self.say(stream, Up::Hello(boot, Box::new(inventory)));
            }
            Command::SendHeartbeat { number } => self.say(stream, Up::Heartbeat(number)),
            Command::SendAdmission(admission) => self.say(stream, Up::Admission(admission)),
            Command::SendDraining => self.say(stream, Up::Draining),
            Command::Start(lease) => self.prepare(ix, lease),
            Command::Stop { token, reason } => self.stop(ix, token, reason),
            Command::Keep(report) => {
                self.workers[ix].spool.insert(report.token, report);
            }
            Command::Forget { token } => {
                self.workers[ix].spool.remove(&token);
            }
            Command::Leave => self.leave(ix),
        }
    }

    fn say(&mut self, stream: Option<StreamId>, message: Up) {
        if let Some(stream) = stream {
            self.send_up(stream, message);
        }
    }

    /// The worker has drained and exits. Its supervisor restarts it.
    fn leave(&mut self, ix: usize) {
        let worker = &mut self.workers[ix];
        worker.is_up = false;
        let (id, boot, stream) = (worker.id.clone(), worker.boot, worker.stream.take());
        self.oracle.died(&id, boot);
        if let Some(stream) = stream {
            self.close_at_worker(stream);
        }
        let at = self.now + span(&mut self.rng, 100, 3000);
        self.queue.plan(at, SimEvent::WorkerStarts(ix));
    }

    /// Passes an attempt to an executor, which starts it after a short delay.
    fn prepare(&mut self, ix: usize, lease: Lease<Job>) {
        let token = lease.token;
        let outcome = Ok(Outputs::default());
        let execution = Execution { lease, began_at: None, outcome, is_stopping: false };
        self.workers[ix].executions.insert(token, execution);
        let boot = self.workers[ix].boot;
        let slow = if chance(&mut self.rng, 5) { 400 } else { 3 };
        let at = self.now + span(&mut self.rng, 0, slow);
        self.queue.plan(at, SimEvent::AttemptBegins { worker: ix, boot, token });
    }

    pub(super) fn on_attempt_begins(&mut self, ix: usize, boot: BootId, token: Token) {
        if !self.is_boot(ix, boot) {
            return;
        }
        let worker = &self.workers[ix];
        let Some(execution) = worker.executions.get(&token).filter(|e| !e.is_stopping) else {
            return;
        };
        self.oracle.started(&Start {
            token,
            attempt: execution.lease.attempt,
            worker: &worker.id,
            boot,
            resources: &execution.lease.resources,
            capacity: &worker.capacity,
            on_disconnect: execution.lease.on_disconnect,
        });
        let lease = execution.lease.clone();
        let (outcome, takes) = self.fate(&lease);
        let is_image_bad = outcome.as_ref().is_err_and(|f| f.cause.kind == CauseKind::Image);
        let execution = self.workers[ix].executions.get_mut(&token).expect("invariant: it is");
        execution.began_at = Some(self.now);
        execution.outcome = outcome;
        let at = self.now + takes;
        let ends = SimEvent::AttemptEnds { worker: ix, boot, token, is_stop: false };
        self.queue.plan(at, ends);
        if !is_image_bad {
            self.feed_worker(ix, Event::AttemptStarted { token });
        }
    }

    /// Returns how an attempt will end, and after how long.
    fn fate(&mut self, lease: &Lease<Job>) -> (Outcome, Duration) {
        let rng = &mut self.rng;
        let takes = match rng.u32(..20) {
            0..10 => span(rng, 0, 40),
            10..18 => span(rng, 20, 1500),
            18 => span(rng, 1000, 8000),
            _ => Duration::ZERO,
        };
        let profile = lease.payload.dag.profile(lease.attempt.task);
        if let Some(timeout) = profile.timeouts.run {
            let whole = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
            let grown = us(profile.retry.timeout.apply(whole, lease.payload.timed_out));
            if takes > grown {
                return (Err(Failure::of(CauseKind::RunTimeout)), grown);
            }
        }
        let memory = lease.resources.get(&Resource::Memory);
        if memory > 0 && memory < rng.u64(..(1 << 30)) && chance(rng, 40) {
            return (Err(Failure::of(CauseKind::OutOfMemory)), takes);
        }
        let outcome = match rng.u32(..40) {
            0..3 => Err(failure(Cause::exit_code(rng.i32(1..=3)), lease.token)),
            3 => Err(failure(Cause::signal(9), lease.token)),
            4 => return (Err(Failure::of(CauseKind::Image)), Duration::ZERO),
            _ => Ok(proof(lease.token)),
        };
        (outcome, takes)
    }

    /// Tells an executor to stop. The attempt is dead a little later.
    fn stop(&mut self, ix: usize, token: Token, reason: StopReason) {
        let boot = self.workers[ix].boot;
        let Some(execution) = self.workers[ix].executions.get_mut(&token) else { return };
        execution.is_stopping = true;
        execution.outcome = Err(Failure::of(match reason {
            StopReason::Cancelled | StopReason::Superseded => CauseKind::Cancelled,
            StopReason::TimedOut => CauseKind::RunTimeout,
            StopReason::CutOff | StopReason::Leaving => CauseKind::Preempted,
        }));
        let at = self.now + span(&mut self.rng, 0, STOP_MS);
        let ends = SimEvent::AttemptEnds { worker: ix, boot, token, is_stop: true };
        self.queue.plan(at, ends);
    }

    pub(super) fn on_attempt_ends(&mut self, ix: usize, boot: BootId, token: Token, is_stop: bool) {
        if !self.is_boot(ix, boot) {
            return;
        }
        let worker = &mut self.workers[ix];
        let is_meant = worker.executions.get(&token).is_some_and(|e| e.is_stopping == is_stop);
        let Some(execution) = is_meant.then(|| worker.executions.remove(&token)).flatten() else {
            return;
        };
        let elapsed = execution.began_at.map_or(Duration::ZERO, |began| self.now.since(began));
        if execution.began_at.is_some() {
            self.oracle.finished(token, &execution.outcome);
            self.report.n_executions += 1;
        }
        let usage = Usage { elapsed, ..Usage::default() };
        let outcome = execution.outcome;
        let is_output_late = false;
        self.feed_worker(ix, Event::AttemptFinished { token, outcome, usage, is_output_late });
    }
}

/// Returns the outputs of an attempt, which identify its lease.
fn proof(token: Token) -> Outputs {
    let text = format!("\"{token}.{:x}\"", token.nonce);
    Outputs(BTreeMap::from([("lease".into(), Value::from_json(text))]))
}

fn lease(grant: Grant) -> Lease<Job> {
    let on_disconnect = grant.dag.profile(grant.attempt.task).on_disconnect;
    Lease {
        attempt: grant.attempt,
        token: grant.token,
        resources: grant.resources,
        on_disconnect,
        payload: Job { dag: grant.dag, timed_out: grant.timed_out },
    }
}

fn stop_reason(reason: CoordinatorStop) -> StopReason {
    match reason {
        CoordinatorStop::Cancelled => StopReason::Cancelled,
        CoordinatorStop::TimedOut => StopReason::TimedOut,
        CoordinatorStop::Superseded => StopReason::Superseded,
    }
}

fn failure(cause: Cause, token: Token) -> Failure {
    Failure::new(cause, &format!("under {token}.{:x}", token.nonce))
}
