//! A run without its tasks.

use kahn_core::{Core, Run, RunSummary};
use kahn_model::{RunId, RunState, TaskIx, TaskState, Timestamp};

use super::count;

/// A run without its tasks.
#[derive(Clone, Debug)]
pub(crate) struct RunView {
    pub run: RunId,
    pub namespace: String,
    /// The name of the DAG.
    pub dag: String,
    pub state: RunState,
    pub submitted_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// The number of tasks in each state; states without tasks are omitted.
    pub tasks: Vec<(TaskState, u32)>,
    /// Why it was cancelled.
    pub reason: Option<String>,
    pub labels: Vec<(String, String)>,
    /// The finished part and the total length of the critical path, in microseconds. Zero in lists.
    pub critical_path_done: u64,
    pub critical_path: u64,
    /// The sequence number of its latest event.
    pub events: u64,
    /// What its ready tasks wait for, ordered by descending number of tasks. Only set for a single
    /// run.
    pub waiting: Vec<WaitingView>,
    /// Whether only a summary of it is in memory.
    pub is_archived: bool,
}

/// Ready tasks that wait for the same reason.
#[derive(Clone, Debug)]
pub(crate) struct WaitingView {
    pub n_tasks: usize,
    /// The name of the task that goes first.
    pub first: String,
    /// The reason as a stable word.
    pub code: &'static str,
    /// The reason as a sentence.
    pub message: String,
    /// What would let them continue; may be empty.
    pub remedy: &'static str,
}

impl RunView {
    /// Returns the view of a single run.
    pub(in crate::service) fn of(run: &Run) -> Self {
        let (critical_path_done, critical_path) = critical_path(run);
        Self { critical_path_done, critical_path, ..Self::in_list(&run.summary()) }
    }

    /// Returns the view for lists: without the critical path, which requires iterating over all
    /// tasks.
    pub(in crate::service) fn in_list(run: &RunSummary<'_>) -> Self {
        let tasks = TaskState::ALL.into_iter().map(|state| (state, run.count(state)));
        let labels = run.labels.iter();
        Self {
            run: run.run,
            namespace: run.namespace.to_string(),
            dag: run.dag.to_string(),
            state: run.state,
            submitted_at: run.submitted_at,
            finished_at: run.finished_at,
            tasks: tasks.filter(|(_, n_tasks)| *n_tasks > 0).collect(),
            reason: run.cancelled.map(ToString::to_string),
            labels: labels.map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            critical_path_done: 0,
            critical_path: 0,
            events: count(run.n_records),
            waiting: Vec::new(),
            is_archived: false,
        }
    }

    /// Returns the view of a single run, with what its ready tasks wait for.
    pub(in crate::service) fn with_waiting(core: &Core, run: &Run) -> Self {
        let waiting = core.waiting(run.id()).unwrap_or_default();
        let waiting = waiting.into_iter().map(|waiting| WaitingView {
            n_tasks: waiting.n_tasks,
            first: run.dag.task_name(waiting.first).to_owned(),
            code: waiting.code,
            message: waiting.message,
            remedy: waiting.remedy,
        });
        Self { waiting: waiting.collect(), ..Self::of(run) }
    }
}

fn critical_path(run: &Run) -> (u64, u64) {
    let longest = |is_counted: &dyn Fn(TaskIx) -> bool| {
        run.dag.tasks().filter(|task| is_counted(*task)).map(|task| run.b_level(task)).max()
    };
    let whole = longest(&|_| true).unwrap_or(0);
    let left = longest(&|task| !run.cell(task).state.is_terminal()).unwrap_or(0);
    (whole - left, whole)
}
