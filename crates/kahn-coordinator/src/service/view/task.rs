//! A task with its latest attempt.

use kahn_core::{Record, RecordKind, Run, Spent, attempt_interval};
use kahn_model::{Cause, TaskIx, TaskState, Timestamp};

use super::UsageView;

/// A task with its latest attempt.
#[derive(Clone, Debug)]
pub(crate) struct TaskView {
    pub name: String,
    pub state: TaskState,
    /// The number of its latest attempt; zero before the first.
    pub attempt: u32,
    pub worker: Option<String>,
    /// When it reached each state; [`Timestamp::ZERO`] if it has not. The time between the start
    /// and the end of an attempt is what its worker measured.
    pub ready_at: Timestamp,
    pub leased_at: Timestamp,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// Why its latest attempt failed, or why it was skipped.
    pub cause: Option<Cause>,
    pub message: String,
    /// JSON values by name.
    pub outputs: Vec<(String, String)>,
    /// Names of its dependencies; only set if a single task was requested.
    pub dependencies: Vec<String>,
    /// The qualified type of the exception raised by its latest attempt; may be empty.
    pub exception: String,
    pub usage: Option<UsageView>,
}

impl TaskView {
    pub(in crate::service) fn of(
        run: &Run,
        task: TaskIx,
        times: &Times,
        with_dependencies: bool,
    ) -> Self {
        let cell = run.cell(task);
        let at = times.0[task.index()];
        let worker = usize::from(at.worker).checked_sub(1).and_then(|at| run.workers.get(at));
        let has_own_failure = !matches!(cell.state, TaskState::Cancelled | TaskState::Skipped);
        let failure = run.failure(task).filter(|_| has_own_failure);
        let outputs = run.outputs(task).into_iter().flat_map(|outputs| &outputs.0);
        let name_of = |task| run.dag.task_name(task).to_owned();
        Self {
            name: name_of(task),
            state: cell.state,
            attempt: u32::from(cell.attempt),
            worker: worker.map(ToString::to_string),
            ready_at: at.ready,
            leased_at: at.leased,
            started_at: at.started,
            finished_at: if cell.state.is_terminal() { at.finished } else { Timestamp::ZERO },
            cause: failure.map(|failure| failure.cause).or(at.cause),
            message: run.why(task),
            outputs: outputs
                .map(|(name, value)| (name.to_string(), value.as_json().to_owned()))
                .collect(),
            dependencies: match with_dependencies {
                true => run.dag.dependencies(task).map(|edge| name_of(edge.task)).collect(),
                false => Vec::new(),
            },
            exception: failure.map(|failure| failure.exception.to_string()).unwrap_or_default(),
            usage: spent_until(run, at.ended).and_then(UsageView::of),
        }
    }
}

/// Returns the resources used by the attempt whose end is the record with this number, from 1.
fn spent_until(run: &Run, number: u32) -> Option<&Spent> {
    run.spent_at(usize::try_from(number).ok()?.checked_sub(1)?)
}

/// When the latest attempt of each task reached each state.
pub(in crate::service) struct Times(Vec<TaskTimes>);

#[derive(Clone, Copy, Default)]
struct TaskTimes {
    ready: Timestamp,
    leased: Timestamp,
    started: Timestamp,
    finished: Timestamp,
    worker: u16,
    cause: Option<Cause>,
    /// Index of the record of its end plus one.
    ended: u32,
}

impl Times {
    pub(in crate::service) fn of(run: &Run) -> Self {
        let mut times = vec![TaskTimes::default(); run.dag.n_tasks()];
        for (number, record) in (1..).zip(&run.history) {
            let Some(task) = record.task() else { continue };
            let entry = &mut times[task.index()];
            match record.kind {
                RecordKind::TaskReady => entry.ready = record.at,
                RecordKind::TaskLeased => {
                    *entry = TaskTimes {
                        ready: entry.ready,
                        leased: record.at,
                        worker: record.worker,
                        ..TaskTimes::default()
                    };
                }
                RecordKind::TaskStarted => entry.started = record.at,
                RecordKind::TaskReturned => entry.leased = Timestamp::ZERO,
                _ => entry.end(record, number, spent_until(run, number)),
            }
        }
        Self(times)
    }
}

impl TaskTimes {
    /// Takes the record of an end. `number` is the number of the record, from 1.
    fn end(&mut self, record: &Record, number: u32, spent: Option<&Spent>) {
        self.finished = record.at;
        self.cause = record.cause();
        self.ended = number;
        if self.started != Timestamp::ZERO {
            let elapsed = spent.map_or(0, |spent| spent.elapsed_micros);
            (self.started, self.finished) =
                attempt_interval(self.leased, Some(self.started), record.at, elapsed);
        }
    }
}
