//! What happened in a run.

use kahn_core::{Record, RecordKind, Run, Spent};
use kahn_model::{Cause, TaskState, Timestamp};

use super::count;

/// Something that happened in a run.
#[derive(Clone, Debug)]
pub(crate) struct EventView {
    /// From 1, without gaps.
    pub seq: u64,
    pub time: Timestamp,
    pub kind: RecordKind,
    /// The name of the task; `None` for the run itself.
    pub task: Option<String>,
    /// The number of the attempt; zero where none is meant.
    pub attempt: u32,
    pub worker: Option<String>,
    pub cause: Option<Cause>,
    /// What a person should know beside the cause; may be empty.
    pub message: String,
    pub usage: Option<UsageView>,
}

/// What an attempt used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsageView {
    /// Processor time, in microseconds.
    pub cpu_micros: u64,
    /// Largest resident memory of any one process, in bytes.
    pub memory_peak: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written that are or will be on storage.
    pub written_bytes: u64,
}

impl UsageView {
    pub(super) fn of(spent: &Spent) -> Self {
        Self {
            cpu_micros: spent.cpu_micros,
            memory_peak: spent.memory_peak,
            read_bytes: spent.read_bytes,
            written_bytes: spent.written_bytes,
        }
    }
}

/// Events of a run with sequence numbers above `after`, at most `max`.
pub(in crate::service) fn events(run: &Run, after: u64, max: usize) -> Vec<EventView> {
    let skip = usize::try_from(after).unwrap_or(usize::MAX);
    (skip..)
        .zip(run.history.iter().skip(skip).take(max))
        .map(|(position, record)| event(run, position, record))
        .collect()
}

fn event(run: &Run, position: usize, record: &Record) -> EventView {
    let worker = usize::from(record.worker).checked_sub(1).and_then(|at| run.workers.get(at));
    EventView {
        seq: count(position) + 1,
        time: record.at,
        kind: record.kind,
        task: record.task().map(|task| run.dag.task_name(task).to_owned()),
        attempt: u32::from(record.attempt),
        worker: worker.map(ToString::to_string),
        cause: record.cause(),
        message: message(run, record),
        usage: run.spent_at(position).map(UsageView::of),
    }
}

/// What is still known of why it happened.
fn message(run: &Run, record: &Record) -> String {
    let of_run = || match &run.cancelled {
        Some(failure) if Some(failure.cause) == record.cause() => failure.message.to_string(),
        _ => String::new(),
    };
    let Some(task) = record.task() else { return of_run() };
    let cell = run.cell(task);
    let is_latest = record.attempt == cell.attempt;
    match record.kind {
        RecordKind::TaskFailed | RecordKind::TaskRetried if is_latest => match run.failure(task) {
            Some(failure) if Some(failure.cause) == record.cause() => failure.message.to_string(),
            _ => String::new(),
        },
        RecordKind::TaskSkipped if cell.state == TaskState::Skipped => run.why(task),
        RecordKind::TaskCancelled if cell.state == TaskState::Cancelled => run.why(task),
        _ => String::new(),
    }
}
