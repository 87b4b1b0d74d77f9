//! Explains why a task is in its state, what holds it back, and what would change that.

mod waiting;

use kahn_model::{CauseKind, RunId, RunState, Share, TaskIx, TaskState};

use crate::apply::rank;
use crate::core::Core;
use crate::state::{ClassIx, Flags, Gate, GateKey, LaneIx, Run, Worker};

pub use waiting::Waiting;

/// Something that a task waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// The kind: `task`, `run`, `key`, `breaker`, `worker` or `clock`.
    pub kind: &'static str,
    /// The name.
    pub name: String,
    /// Its state.
    pub detail: String,
}

/// Explains the state of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The state of the task.
    pub state: TaskState,
    /// The reason as a stable word.
    pub code: &'static str,
    /// The reason as a sentence.
    pub message: String,
    /// What it waits for; incomplete if there are many.
    pub blockers: Vec<Blocker>,
    /// What would let the task continue; empty if nothing can or needs to be done.
    pub remedy: &'static str,
}

/// Maximum number of blockers in an explanation.
const BLOCKERS_MAX: usize = 20;

/// Maximum number of tasks counted as going before another.
const AHEAD_MAX: usize = 1000;

impl Core {
    /// Explains `task`; returns `None` if it does not exist.
    #[must_use]
    pub fn explain(&self, run: RunId, task: TaskIx) -> Option<Explanation> {
        let run = self.state.run(run)?;
        if !run.dag.contains(task) {
            return None;
        }
        let cell = run.cell(task);
        let mut explanation = match cell.state {
            TaskState::Pending if cell.flags.has(Flags::EVALUATING) => {
                plain("evaluating", "its condition and texts are being evaluated", "")
            }
            TaskState::Pending => pending(run, task),
            TaskState::Ready => self.ready(run, task),
            TaskState::Leased | TaskState::Running => self.held(run, task),
            TaskState::BackingOff => self.backing_off(run, task),
            _ => ended(run, task),
        };
        explanation.state = cell.state;
        Some(explanation)
    }

    fn ready(&self, run: &Run, task: TaskIx) -> Explanation {
        let rank = rank(run, task);
        let found = run.lanes.values().find(|lane| self.state.ready.lane(**lane).has(rank, task));
        let Some(lane_ix) = found.copied() else {
            return plain("ready", "it is about to be placed", "");
        };
        if let Some(explanation) = self.held_back(run, lane_ix) {
            return explanation;
        }
        let lane = self.state.ready.lane(lane_ix);
        let ahead = lane.tasks().take(AHEAD_MAX).take_while(|t| *t != task).count();
        let or_more = if ahead == AHEAD_MAX { " or more" } else { "" };
        let message =
            format!("all suitable workers are busy; {ahead}{or_more} of its run go before it");
        let mut out = plain("no_room", &message, "wait, add workers, or raise its priority");
        out.blockers = blocking(self.suitable(lane.class));
        out
    }

    /// Explains what holds back all tasks of a lane; returns `None` if they only wait for their
    /// turn.
    fn held_back(&self, run: &Run, lane_ix: LaneIx) -> Option<Explanation> {
        let lane = self.state.ready.lane(lane_ix);
        if let Some(gate) = self.gate_of(lane_ix) {
            return Some(self.gated(run, lane_ix, &gate));
        }
        if let Some(shortage) = self.infeasibility(lane.class) {
            let remedy = "add a worker that has what it asks for, or ask for less";
            return Some(plain("infeasible", &shortage, remedy));
        }
        if let Some(explanation) = self.waiting_for_pool(lane.class) {
            return Some(explanation);
        }
        if !self.state.workers.iter().any(|worker| worker.takes_leases()) {
            return Some(plain("no_worker", "no worker takes work", "start or uncordon a worker"));
        }
        self.under_pressure(lane.class)
    }

    /// Returns the workers that take leases and could run a task of the class.
    fn suitable(&self, class: ClassIx) -> impl Iterator<Item = &Worker> {
        let class = self.state.classes.get(class);
        let is_suitable =
            move |worker: &&Worker| worker.takes_leases() && class.suits(&worker.shape);
        self.state.workers.iter().filter(is_suitable)
    }

    /// Explains a class that no worker suits now, but a worker of a pool would.
    fn waiting_for_pool(&self, class_ix: ClassIx) -> Option<Explanation> {
        if self.suitable(class_ix).next().is_some() {
            return None;
        }
        let class = self.state.classes.get(class_ix);
        let pool = self.state.known_pools.iter().find(|pool| pool.suits(class))?;
        let name = &pool.settings.name;
        let message = format!("pool {name} has no worker that could run it now");
        let remedy = "wait for the pool to grow; `kahn pools` shows how many workers it needs";
        Some(plain("no_worker", &message, remedy))
    }

    /// Explains a class for which a worker would have room if it accepted its full capacity.
    fn under_pressure(&self, class_ix: ClassIx) -> Option<Explanation> {
        let class = self.state.classes.get(class_ix);
        let is_throttled = |worker: &&Worker| {
            let has_lease_room = worker.has_lease_room() && !worker.admission.share.is_all();
            has_lease_room && class.resources.fits(&Share::ALL.room(&worker.capacity, &worker.used))
        };
        let throttled = || self.suitable(class_ix).filter(is_throttled);
        let first = throttled().next()?;
        let more = match throttled().skip(1).count() {
            0 => String::new(),
            n => format!(", and {n} more are under pressure"),
        };
        let message = format!("worker {} {}{more}", first.id, pressed(first));
        let remedy = "wait until the pressure falls, add workers, or ask for less";
        let mut out = plain("pressure", &message, remedy);
        out.blockers = blocking(throttled());
        Some(out)
    }

    fn gated(&self, run: &Run, lane: LaneIx, gate: &Gate) -> Explanation {
        let class = self.state.classes.get(self.state.ready.lane(lane).class);
        match gate {
            Gate::Run(_) if run.state == RunState::Paused => {
                plain("paused", "its run is paused", "resume the run")
            }
            Gate::Run(_) => {
                let message = format!("its run holds {} leases, as many as it may", run.n_held);
                plain("max_parallel", &message, "wait, or submit with a higher max_parallel")
            }
            Gate::Key(key) => {
                let limit =
                    class.concurrency.iter().find(|l| l.key == key.1).map_or(0, |l| l.limit);
                let message = format!("concurrency key {} is held {limit} times", key.1);
                let mut out = plain("concurrency", &message, "wait, or raise the key's limit");
                out.blockers = self.holders_of_key(key);
                out
            }
            Gate::Breaker(key) => {
                let message = format!("the breaker {} is open after repeated failures", key.1);
                plain("circuit_open", &message, "wait for its cool-down, or fix the target")
            }
        }
    }

    /// Returns the tasks that hold a key, limited to the same namespace.
    fn holders_of_key(&self, (namespace, key): &GateKey) -> Vec<Blocker> {
        self.state
            .leases
            .iter()
            .filter(|(_, lease)| {
                let class = self.state.classes.get(lease.class);
                self.state.runs[lease.run.0].namespace == *namespace
                    && class.concurrency.iter().any(|limit| limit.key == *key)
            })
            .take(BLOCKERS_MAX)
            .map(|(_, lease)| Blocker {
                kind: "task",
                name: self.state.runs[lease.run.0].dag.task_name(lease.task).to_owned(),
                detail: format!("holds it in run {}", lease.run_id),
            })
            .collect()
    }

    fn held(&self, run: &Run, task: TaskIx) -> Explanation {
        let Some(lease) = self.state.lease_of(run, task) else {
            return plain("held", "a worker holds it", "");
        };
        let worker = self.state.holder_of(lease);
        let code = match (lease.started_at.is_some(), lease.is_stopping) {
            (_, true) => "stopping",
            (true, false) => "running",
            (false, false) if lease.holds_resources() => "starting",
            (false, false) => "queued_on_worker",
        };
        let holds = format!("worker {} ({}) holds it", worker.id, worker.status.as_str());
        if code == "stopping" {
            let message = format!("{holds}, and has not confirmed yet that it is stopped");
            return plain(code, &message, "wait");
        }
        if code == "queued_on_worker" && !worker.admission.share.is_all() {
            let message = format!("{holds} and {}", pressed(worker));
            return plain(code, &message, "wait until the pressure falls, or add workers");
        }
        plain(code, &holds, "")
    }

    fn backing_off(&self, run: &Run, task: TaskIx) -> Explanation {
        let wait = run.backoff_ends(task).map(|until| until.since(self.state.now));
        let failure = run.failure(task).map(ToString::to_string).unwrap_or_default();
        let message = format!(
            "attempt {} failed ({failure}); the next is due in {:.1} s",
            run.cell(task).attempt,
            wait.unwrap_or_default().as_secs_f64(),
        );
        plain("backing_off", &message, "wait")
    }
}

fn pending(run: &Run, task: TaskIx) -> Explanation {
    let waiting = run.cell(task).pending;
    let message = format!("it waits for {waiting} of its dependencies");
    let mut out = plain("dependencies", &message, "");
    out.blockers = blockers(run, task, |state| !state.is_terminal());
    out
}

impl Run {
    /// Returns details about why a task ended; empty if its cause says everything.
    #[must_use]
    pub fn why(&self, task: TaskIx) -> String {
        match self.cell(task).state {
            TaskState::Cancelled => match &self.cancelled {
                Some(failure) if failure.cause.kind == CauseKind::Cancelled => {
                    failure.message.to_string()
                }
                Some(failure) => failure.to_string(),
                None => self.why_halted(),
            },
            TaskState::Skipped if self.cell(task).flags.has(Flags::EVALUATED) => {
                "its condition is false".to_owned()
            }
            TaskState::Skipped => {
                let mut unmet = self.dag.dependencies(task).map(|edge| edge.task).filter(|other| {
                    let state = self.cell(*other).state;
                    state.is_terminal() && state != TaskState::Succeeded
                });
                match unmet.next() {
                    Some(other) => {
                        let how = match self.cell(other).state {
                            TaskState::Skipped => "was skipped",
                            TaskState::Cancelled => "was cancelled",
                            _ => "failed",
                        };
                        format!("its dependency {} {how}", self.dag.task_name(other))
                    }
                    None => "its dependencies did not end as its trigger needs them".to_owned(),
                }
            }
            _ => self.failure(task).map(|failure| failure.message.to_string()).unwrap_or_default(),
        }
    }

    /// Names one of the failures that triggered the failure policy.
    fn why_halted(&self) -> String {
        let mut failed = self.failures.keys();
        match failed.find(|task| self.cell(**task).state == TaskState::Failed) {
            Some(task) => {
                format!("task {} failed, and on_failure says to stop", self.dag.task_name(*task))
            }
            None => String::new(),
        }
    }
}

fn ended(run: &Run, task: TaskIx) -> Explanation {
    let state = run.cell(task).state;
    match state {
        TaskState::Skipped => skipped(run, task),
        TaskState::Cancelled => {
            let because = match run.why(task) {
                why if why.is_empty() => "cancelled".to_owned(),
                why => why,
            };
            plain("ended", &format!("it was cancelled: {because}"), "retry the run")
        }
        TaskState::Failed => {
            let because = run.failure(task).map(ToString::to_string).unwrap_or_default();
            let kind = run.failure(task).map(|failure| failure.cause.kind);
            let remedy = kind.map_or("retry the run", remedy);
            plain("ended", &format!("it failed: {because}"), remedy)
        }
        _ => plain("ended", &format!("it {state}"), ""),
    }
}

/// Returns how to fix a failure, other than by retrying.
fn remedy(kind: CauseKind) -> &'static str {
    match kind {
        CauseKind::OutOfMemory => {
            "ask for more memory in resources, or set retry.memory_multiplier; then retry the run"
        }
        CauseKind::QueueTimeout => {
            "add workers, or allow more time in timeouts.queue; then retry the run"
        }
        CauseKind::StartTimeout => "allow more time in timeouts.start; then retry the run",
        CauseKind::RunTimeout => {
            "see its log for where it stands still, or allow more time in timeouts.run; then retry \
             the run"
        }
        CauseKind::WorkerLost => {
            "look whether it takes its worker down, by memory perhaps; else start a worker and \
             retry the run"
        }
        CauseKind::Preempted => "look at the log of its worker; then retry the run",
        CauseKind::Image => "fix what the message names on the worker; then retry the run",
        CauseKind::Infeasible => {
            "add a worker that has what it asks for and retry the run, or submit with less"
        }
        CauseKind::Policy => {
            "submit without what is forbidden, or have an operator allow it on the workers"
        }
        CauseKind::Expression => "fix the expression, and submit again",
        CauseKind::CircuitOpen => "fix what the breaker guards; then retry the run",
        CauseKind::Unreachable => {
            "look whether the worker can reach it, and its name is right; then retry the run"
        }
        CauseKind::ExitCode
        | CauseKind::Signal
        | CauseKind::Exception
        | CauseKind::Panic
        | CauseKind::HttpStatus => "see its log for why; then retry the run",
        CauseKind::Dependency
        | CauseKind::Cancelled
        | CauseKind::Condition
        | CauseKind::Deadline => "retry the run",
    }
}

fn skipped(run: &Run, task: TaskIx) -> Explanation {
    let message = format!("it was skipped: {}", run.why(task));
    let mut out = plain("ended", &message, "");
    if !run.cell(task).flags.has(Flags::EVALUATED) {
        out.blockers = blockers(run, task, TaskState::is_terminal);
    }
    out
}

/// Returns the dependencies of a task whose state satisfies `is_wanted`.
fn blockers(run: &Run, task: TaskIx, is_wanted: impl Fn(TaskState) -> bool) -> Vec<Blocker> {
    run.dag
        .dependencies(task)
        .map(|edge| edge.task)
        .filter(|dependency| is_wanted(run.cell(*dependency).state))
        .take(BLOCKERS_MAX)
        .map(|dependency| Blocker {
            kind: "task",
            name: run.dag.task_name(dependency).to_owned(),
            detail: run.cell(dependency).state.to_string(),
        })
        .collect()
}

fn plain(code: &'static str, message: &str, remedy: &'static str) -> Explanation {
    Explanation {
        state: TaskState::Pending,
        code,
        message: message.to_owned(),
        blockers: Vec::new(),
        remedy,
    }
}

fn blocking<'a>(workers: impl Iterator<Item = &'a Worker>) -> Vec<Blocker> {
    let blocker = |worker: &Worker| Blocker {
        kind: "worker",
        name: worker.id.to_string(),
        detail: occupation(worker),
    };
    workers.take(BLOCKERS_MAX).map(blocker).collect()
}

fn occupation(worker: &Worker) -> String {
    let room = worker.room();
    let left = if room.is_none() { "nothing".to_owned() } else { room.rounded().to_string() };
    let mut out = match worker.n_leases() {
        1 => format!("holds 1 lease, has left: {left}"),
        n => format!("holds {n} leases, has left: {left}"),
    };
    if !worker.admission.share.is_all() {
        out.push_str(&format!("; accepts {}", worker.admission));
    }
    out
}

/// Describes that a worker accepts less than its full capacity, and why.
fn pressed(worker: &Worker) -> String {
    let share = worker.admission.share;
    let why = worker.admission.pressure.map(|pressure| format!(": {pressure}"));
    format!("accepts {share} of its capacity{}", why.unwrap_or_default())
}
