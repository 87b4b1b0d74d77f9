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
    /// How long an attempt took that this ends, in microseconds; zero if not known.
    pub elapsed_micros: u64,
    pub usage: Option<UsageView>,
}

/// What an attempt used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Nothing is known of what runs in no process of its own.
    pub(super) fn of(spent: &Spent) -> Option<Self> {
        let used = Self {
            cpu_micros: spent.cpu_micros,
            memory_peak: spent.memory_peak,
            read_bytes: spent.read_bytes,
            written_bytes: spent.written_bytes,
        };
        (used != Self::default()).then_some(used)
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
    let spent = run.spent_at(position);
    EventView {
        seq: count(position) + 1,
        time: record.at,
        kind: record.kind,
        task: record.task().map(|task| run.dag.task_name(task).to_owned()),
        attempt: u32::from(record.attempt),
        worker: worker.map(ToString::to_string),
        cause: record.cause(),
        message: message(run, position, record),
        elapsed_micros: spent.map_or(0, |spent| spent.elapsed_micros),
        usage: spent.and_then(UsageView::of),
    }
}

/// What is still known of why it happened.
fn message(run: &Run, position: usize, record: &Record) -> String {
    let of_run = || match &run.cancelled {
        Some(failure) if Some(failure.cause) == record.cause() => failure.message.to_string(),
        _ => String::new(),
    };
    let Some(task) = record.task() else { return of_run() };
    let cell = run.cell(task);
    match record.kind {
        RecordKind::TaskFailed | RecordKind::TaskRetried => {
            let is_latest = record.attempt == cell.attempt;
            let latest = run.failure(task).filter(|_| is_latest);
            match latest.filter(|failure| Some(failure.cause) == record.cause()) {
                Some(failure) => failure.message.to_string(),
                None => run.message_at(position).unwrap_or_default().to_owned(),
            }
        }
        RecordKind::TaskSkipped if cell.state == TaskState::Skipped => run.why(task),
        RecordKind::TaskCancelled if cell.state == TaskState::Cancelled => run.why(task),
        _ => String::new(),
    }
}
