//! Why a task is where it is, what holds it back, and what would change that.

use kahn_model::{RunId, RunState, TaskIx, TaskState};

use crate::apply::rank;
use crate::core::Core;
use crate::state::{Flags, Gate, GateKey, LaneIx, Run, Worker};

/// Something that a task waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// What kind of thing: `task`, `run`, `key`, `breaker`, `worker` or `clock`.
    pub kind: &'static str,
    /// Which one.
    pub name: String,
    /// Where that one stands.
    pub detail: String,
}

/// Why a task is where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Where it is.
    pub state: TaskState,
    /// The reason as one stable word.
    pub code: &'static str,
    /// The reason as a sentence.
    pub message: String,
    /// What it waits for; not all, where there are many.
    pub blockers: Vec<Blocker>,
    /// What would let it go on; empty where nothing can or need.
    pub remedy: &'static str,
}

/// Most blockers that an explanation names.
const BLOCKERS_MAX: usize = 20;

/// How many tasks that go before another are counted.
const AHEAD_MAX: usize = 1000;

impl Core {
    /// Explains `task`; `None` when there is no such task.
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
        let lane = self.state.ready.lane(lane_ix);
        if let Some(gate) = self.gate_of(lane_ix) {
            return self.gated(run, lane_ix, &gate);
        }
        if let Some(shortage) = self.infeasibility(lane.class) {
            let remedy = "add a worker that has what it asks for, or ask for less";
            return plain("infeasible", &shortage, remedy);
        }
        if !self.state.workers.iter().any(|worker| worker.takes_leases()) {
            return plain("no_worker", "no worker takes work", "start or uncordon a worker");
        }
        let ahead = lane.tasks().take(AHEAD_MAX).take_while(|t| *t != task).count();
        let or_more = if ahead == AHEAD_MAX { " or more" } else { "" };
        let message =
            format!("all suitable workers are busy; {ahead}{or_more} of its run go before it");
        let mut out = plain("no_room", &message, "wait, add workers, or raise its priority");
        let class = self.state.classes.get(lane.class);
        out.blockers = self
            .state
            .workers
            .iter()
            .filter(|worker| worker.takes_leases() && class.suits(&worker.shape))
            .take(BLOCKERS_MAX)
            .map(|worker| Blocker {
                kind: "worker",
                name: worker.id.to_string(),
                detail: occupation(worker),
            })
            .collect();
        out
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
                plain("circuit_open", &message, "wait for its cool-down, or mend the target")
            }
        }
    }

    /// Tasks of the same namespace that hold a key; those of others are nobody's business.
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
        let message = format!("worker {} ({}) holds it", worker.id, worker.status.as_str());
        plain(code, &message, "")
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

fn ended(run: &Run, task: TaskIx) -> Explanation {
    let state = run.cell(task).state;
    match state {
        TaskState::Skipped => skipped(run, task),
        TaskState::Cancelled => {
            let because = run.cancelled.as_ref().map_or_else(
                || {
                    "another task failed, and the run goes on with what handles that only"
                        .to_owned()
                },
                ToString::to_string,
            );
            plain("ended", &format!("it was called off: {because}"), "retry the run")
        }
        TaskState::Failed => {
            let because = run.failure(task).map(ToString::to_string).unwrap_or_default();
            plain("ended", &format!("it failed: {because}"), "retry the run")
        }
        _ => plain("ended", &format!("it {state}"), ""),
    }
}

fn skipped(run: &Run, task: TaskIx) -> Explanation {
    if run.cell(task).flags.has(Flags::EVALUATED) {
        return plain("ended", "it was skipped: its condition is false", "");
    }
    let message = "it was skipped: its dependencies did not end as its trigger needs them";
    let mut out = plain("ended", message, "");
    out.blockers = blockers(run, task, TaskState::is_terminal);
    out
}

/// The dependencies of a task that stand where the caller looks for them.
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

fn occupation(worker: &Worker) -> String {
    let room = worker.room();
    let left = if room.is_none() { "nothing".to_owned() } else { room.to_string() };
    match worker.n_leases() {
        1 => format!("holds 1 lease, has left: {left}"),
        n => format!("holds {n} leases, has left: {left}"),
    }
}
