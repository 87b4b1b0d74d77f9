//! Events of a run.

use kahn_core::{Record, RecordKind, Run, Spent};
use kahn_model::{Cause, TaskState, Timestamp};

use super::count;

/// An event of a run.
#[derive(Clone, Debug)]
pub(crate) struct EventView {
    /// The sequence number, from 1 without gaps.
    pub seq: u64,
    pub time: Timestamp,
    pub kind: RecordKind,
    /// The name of the task; `None` for the run itself.
    pub task: Option<String>,
    /// The number of the attempt; zero if the event is not about an attempt.
    pub attempt: u32,
    pub worker: Option<String>,
    pub cause: Option<Cause>,
    /// Details beyond the cause; may be empty.
    pub message: String,
    /// Duration of the attempt that this event ends, in microseconds; zero if unknown.
    pub elapsed_micros: u64,
    pub usage: Option<UsageView>,
}

/// Resources used by an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UsageView {
    /// CPU time, in microseconds.
    pub cpu_micros: u64,
    /// Peak resident memory of the largest process, in bytes.
    pub memory_peak: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written to storage, including those not yet flushed.
    pub written_bytes: u64,
}

impl UsageView {
    /// Converts `spent`, or returns `None` if nothing was measured, as for attempts without a
    /// process of their own.
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

/// Returns at most `max` events of a run with sequence numbers above `after`.
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

/// Returns the details that are still known.
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
