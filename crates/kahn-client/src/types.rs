//! What a coordinator tells about runs, tasks, events and workers.

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_model::{Labels, RunId, RunState, TaskState, Timestamp};

/// A run as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Whose it is.
    pub namespace: String,
    /// The name of its DAG.
    pub dag: String,
    /// Where it stands.
    pub state: RunState,
    /// When it was submitted, on the coordinator's clock.
    pub submitted_at: Timestamp,
    /// When it ended, if it has.
    pub finished_at: Option<Timestamp>,
    /// How many tasks are in each state; states without tasks are left out.
    pub tasks: BTreeMap<TaskState, u32>,
    /// Why it was called off; empty otherwise.
    pub reason: String,
    /// Marks to find it by.
    pub labels: Labels,
    /// How much of the heaviest chain of tasks is done.
    pub critical_path_done: Duration,
    /// How long the heaviest chain of tasks is.
    pub critical_path: Duration,
    /// The sequence number of its latest event.
    pub last_event: u64,
    /// What its ready tasks wait for, the reason of most tasks first; known only when the run was
    /// asked for by its id, alone.
    pub waiting: Vec<Waiting>,
}

/// Ready tasks of a run that wait for the same thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How many there are.
    pub n_tasks: u32,
    /// The name of the one that goes first.
    pub first: String,
    /// The reason as one stable word.
    pub code: String,
    /// The reason as a sentence.
    pub message: String,
    /// What would let them go on; may be empty.
    pub remedy: String,
}

impl Run {
    /// How many tasks it has.
    #[must_use]
    pub fn n_tasks(&self) -> u64 {
        self.tasks.values().map(|count| u64::from(*count)).sum()
    }

    /// How many tasks have ended, however.
    #[must_use]
    pub fn n_ended(&self) -> u64 {
        let ended = self.tasks.iter().filter(|(state, _)| state.is_terminal());
        ended.map(|(_, count)| u64::from(*count)).sum()
    }
}

/// A task of a run as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: TaskState,
    /// The number of its latest attempt; zero before the first.
    pub attempt: u32,
    /// The worker of its latest attempt; empty before the first.
    pub worker: String,
    /// When it became ready.
    pub ready_at: Option<Timestamp>,
    /// When its latest attempt was leased.
    pub leased_at: Option<Timestamp>,
    /// When its latest attempt started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why its latest attempt failed, or why it was skipped: one stable word, empty otherwise.
    pub cause: String,
    /// The exit code or the signal.
    pub cause_code: i32,
    /// What a person should know beside the cause.
    pub message: String,
    /// The type of the exception that its latest attempt raised; empty when there was none.
    pub exception: String,
    /// What it gave: JSON texts by name.
    pub outputs: BTreeMap<String, String>,
    /// What it depends on; filled only when it was asked for by name, alone.
    pub dependencies: Vec<String>,
    /// What its latest attempt used, where that has ended and it is known.
    pub usage: Option<Usage>,
}

/// What an attempt used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of its whole process tree.
    pub cpu: Duration,
    /// Largest resident memory of any one process, in bytes.
    pub memory_peak: u64,
    /// Bytes read from storage; what was in memory already does not count.
    pub read_bytes: u64,
    /// Bytes written that are or will be on storage.
    pub written_bytes: u64,
}

impl Task {
    /// How long its latest attempt ran, when that has started and ended.
    #[must_use]
    pub fn elapsed(&self) -> Option<Duration> {
        Some(self.finished_at?.since(self.started_at?))
    }
}

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number within the run: from 1, without gaps.
    pub seq: u64,
    /// When the coordinator decided it.
    pub at: Timestamp,
    /// What happened; the words are stable.
    pub kind: String,
    /// The run.
    pub run: RunId,
    /// The task; empty for the run itself.
    pub task: String,
    /// The attempt; zero where none is meant.
    pub attempt: u32,
    /// The worker; empty where none is meant.
    pub worker: String,
    /// Why; empty where there is no why.
    pub cause: String,
    /// The exit code or the signal.
    pub cause_code: i32,
    /// What a person should know beside the cause; only that of a task's latest failure is kept.
    pub message: String,
    /// How long the attempt took that this ends, as its worker measured it, if that is known.
    pub elapsed: Option<Duration>,
    /// What the attempt used, where this is its end and that is known.
    pub usage: Option<Usage>,
}

/// Which runs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Of this namespace; of all when not given.
    pub namespace: Option<String>,
    /// In one of these states; in any when empty.
    pub states: Vec<RunState>,
    /// With all of these marks.
    pub labels: Labels,
    /// Of this DAG; of all when not given.
    pub dag: Option<String>,
}

/// Which tasks to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// In one of these states; in any when empty.
    pub states: Vec<TaskState>,
    /// These tasks; all when empty.
    pub names: Vec<String>,
}

/// Part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// What to ask for to get the next page; `None` on the last one.
    pub next: Option<String>,
}

/// Which tasks of a finished run to run again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RetryScope {
    /// All that failed, were cancelled, or were skipped because of those.
    #[default]
    Failed,
    /// These and everything behind them.
    From(Vec<String>),
    /// These alone.
    Only(Vec<String>),
}

/// Why a task is where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Where it stands.
    pub state: TaskState,
    /// The reason as one stable word.
    pub code: String,
    /// The reason as a sentence.
    pub message: String,
    /// What it waits for.
    pub blockers: Vec<Blocker>,
    /// What would let it go on; may be empty.
    pub remedy: String,
}

/// One thing that a task waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// `task`, `run`, `key`, `breaker`, `worker` or `clock`.
    pub kind: String,
    /// Which one.
    pub name: String,
    /// How it stands.
    pub detail: String,
}

/// A worker as the coordinator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// `attached`, `suspect` or `lost`.
    pub status: String,
    /// Whether it gets no new leases.
    pub is_cordoned: bool,
    /// Whether it finishes what it holds, and stops.
    pub is_draining: bool,
    /// What it has, as `cpu=2 memory=4Gi`.
    pub capacity: String,
    /// How much of that is held.
    pub used: String,
    /// What it says of itself.
    pub labels: Labels,
    /// What it can carry out.
    pub executors: Vec<String>,
    /// Leases that it holds.
    pub leases: u32,
    /// How many of those wait there for room.
    pub leases_ahead: u32,
    /// When it was last heard, on the coordinator's clock.
    pub heard_at: Option<Timestamp>,
    /// How much of its capacity it accepts, in thousandths. One that holds nothing accepts
    /// whatever fits its whole capacity.
    pub accepts_permille: u32,
    /// What made it less than all.
    pub pressure: Option<Pressure>,
    /// Since when it is less than all, on the coordinator's clock.
    pub throttled_since: Option<Timestamp>,
}

/// A pressure on a worker, and the limit that it is beyond. Both in thousandths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// `memory`, `available_memory` (which is below its limit), `cpu` or `io`.
    pub kind: String,
    /// What was measured.
    pub measured_permille: u32,
    /// What would have been borne.
    pub limit_permille: u32,
}
