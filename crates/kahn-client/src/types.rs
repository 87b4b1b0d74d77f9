//! Runs, tasks, events and workers.

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_model::{Labels, RunId, RunState, TaskState, Timestamp};

/// The current state of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The id.
    pub id: RunId,
    /// The namespace.
    pub namespace: String,
    /// The name of the DAG.
    pub dag: String,
    /// The state.
    pub state: RunState,
    /// When it was submitted, on the coordinator's clock.
    pub submitted_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The number of tasks in each state; states without tasks are omitted.
    pub tasks: BTreeMap<TaskState, u32>,
    /// The reason of the cancellation; empty otherwise.
    pub reason: String,
    /// The labels.
    pub labels: Labels,
    /// The completed part of the critical path.
    pub critical_path_done: Duration,
    /// The duration of the critical path.
    pub critical_path: Duration,
    /// The sequence number of the latest event.
    pub last_event: u64,
    /// What the ready tasks wait for, the most frequent reason first. Only set when a single run
    /// was requested.
    pub waiting: Vec<Waiting>,
    /// Whether it is archived, which makes reading it slower.
    pub is_archived: bool,
}

/// Ready tasks of a run that wait for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The number of tasks.
    pub n_tasks: u32,
    /// The name of the task that is next in line.
    pub first: String,
    /// The reason as a stable code.
    pub code: String,
    /// The reason as a sentence.
    pub message: String,
    /// What would unblock them; may be empty.
    pub remedy: String,
}

impl Run {
    /// Returns the number of tasks.
    #[must_use]
    pub fn n_tasks(&self) -> u64 {
        self.tasks.values().map(|count| u64::from(*count)).sum()
    }

    /// Returns the number of tasks that have ended, with any outcome.
    #[must_use]
    pub fn n_ended(&self) -> u64 {
        let ended = self.tasks.iter().filter(|(state, _)| state.is_terminal());
        ended.map(|(_, count)| u64::from(*count)).sum()
    }
}

/// The current state of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The name.
    pub name: String,
    /// The state.
    pub state: TaskState,
    /// The number of the latest attempt; zero before the first.
    pub attempt: u32,
    /// The worker of the latest attempt; empty before the first.
    pub worker: String,
    /// When it became ready.
    pub ready_at: Option<Timestamp>,
    /// When the latest attempt was leased.
    pub leased_at: Option<Timestamp>,
    /// When the latest attempt started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why the latest attempt failed, or why the task was skipped, as a stable code; empty
    /// otherwise.
    pub cause: String,
    /// The exit code, the signal or the HTTP status.
    pub cause_code: i32,
    /// Human-readable details about the cause.
    pub message: String,
    /// The qualified type of the exception that the latest attempt raised; empty if there was none.
    pub exception: String,
    /// The outputs: JSON texts by name.
    pub outputs: BTreeMap<String, String>,
    /// The dependencies. Only set when a single task was requested.
    pub dependencies: Vec<String>,
    /// Resource usage of the latest attempt, if it has ended and the usage is known.
    pub usage: Option<Usage>,
}

/// Resource usage of an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of the whole process tree.
    pub cpu: Duration,
    /// Peak resident memory of any one process, in bytes; zero if unknown.
    pub memory_peak: u64,
    /// Bytes read from storage, excluding reads from the page cache.
    pub read_bytes: u64,
    /// Bytes written that have reached or will reach storage.
    pub written_bytes: u64,
}

impl Task {
    /// Returns how long the latest attempt ran, if it has started and ended.
    #[must_use]
    pub fn elapsed(&self) -> Option<Duration> {
        Some(self.finished_at?.since(self.started_at?))
    }
}

/// An event of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The sequence number within the run, starting at 1, without gaps.
    pub seq: u64,
    /// When the coordinator decided it.
    pub at: Timestamp,
    /// The stable name of the kind of event.
    pub kind: String,
    /// The run.
    pub run: RunId,
    /// The task; empty for events of the run itself.
    pub task: String,
    /// The attempt; zero where not applicable.
    pub attempt: u32,
    /// The worker; empty where not applicable.
    pub worker: String,
    /// The stable name of the cause; empty where not applicable.
    pub cause: String,
    /// The exit code, the signal or the HTTP status.
    pub cause_code: i32,
    /// Human-readable details. Those of earlier failed attempts may be cut or missing.
    pub message: String,
    /// Duration of the attempt that this event ends, measured by the worker, if known.
    pub elapsed: Option<Duration>,
    /// Resource usage of the attempt, if this is its end and the usage is known.
    pub usage: Option<Usage>,
}

/// Selects runs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only runs of this namespace; `None` selects all.
    pub namespace: Option<String>,
    /// Only runs in one of these states; empty selects all.
    pub states: Vec<RunState>,
    /// Only runs with all of these labels.
    pub labels: Labels,
    /// Only runs of this DAG; `None` selects all.
    pub dag: Option<String>,
}

/// Selects tasks to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Only tasks in one of these states; empty selects all.
    pub states: Vec<TaskState>,
    /// Only these tasks; empty selects all.
    pub names: Vec<String>,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The token of the next page; `None` on the last page.
    pub next: Option<String>,
}

/// Selects tasks of a finished run to rerun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RetryScope {
    /// All tasks that failed, were cancelled, or were skipped because of those.
    #[default]
    Failed,
    /// These tasks and everything downstream of them.
    From(Vec<String>),
    /// Only these tasks.
    Only(Vec<String>),
}

/// Explains why a task is in its current state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The state.
    pub state: TaskState,
    /// The reason as a stable code.
    pub code: String,
    /// The reason as a sentence.
    pub message: String,
    /// What it waits for.
    pub blockers: Vec<Blocker>,
    /// What would unblock it; may be empty.
    pub remedy: String,
}

/// Something that a task waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// `task`, `run`, `key`, `breaker`, `worker` or `clock`.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The state of the blocker.
    pub detail: String,
}

/// A pool: the workers whose label `pool` is its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The name.
    pub name: String,
    /// Workers that are present and do not leave.
    pub workers: u32,
    /// Those of them that hold leases or are cordoned.
    pub workers_busy: u32,
    /// The number of workers that would have room for the attempts that they hold and for the tasks
    /// that wait. At least `workers_busy`.
    pub workers_wanted: u32,
    /// The configured maximum.
    pub workers_max: Option<u32>,
    /// The leases that its workers hold.
    pub leases: u64,
    /// Ready tasks that wait for room and that this pool is to run.
    pub tasks_waiting: u64,
}

/// A worker as the coordinator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// The name.
    pub name: String,
    /// `attached`, `suspect` or `lost`.
    pub status: String,
    /// Whether it is cordoned and gets no new leases.
    pub is_cordoned: bool,
    /// Whether it is draining: it finishes its attempts and exits.
    pub is_draining: bool,
    /// The capacity, such as `cpu=2 memory=4Gi`.
    pub capacity: String,
    /// The part of the capacity that is in use.
    pub used: String,
    /// The labels.
    pub labels: Labels,
    /// The kinds of action that it can execute.
    pub executors: Vec<String>,
    /// The number of leases that it holds.
    pub leases: u32,
    /// The number of those that wait on the worker for room.
    pub leases_ahead: u32,
    /// When the coordinator last heard from it, on the coordinator's clock.
    pub heard_at: Option<Timestamp>,
    /// The accepted share of its capacity, in thousandths. A worker without attempts accepts any
    /// task that fits its whole capacity.
    pub accepts_permille: u32,
    /// Why the share is reduced.
    pub pressure: Option<Pressure>,
    /// Since when the share is reduced, on the coordinator's clock.
    pub throttled_since: Option<Timestamp>,
}

/// A pressure on a worker and the limit that it exceeds, in thousandths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// `memory`, `available_memory` (which is below its limit), `cpu` or `io`.
    pub kind: String,
    /// The measured value.
    pub measured_permille: u32,
    /// The limit.
    pub limit_permille: u32,
}
