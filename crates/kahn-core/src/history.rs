//! The history of a run: one small record per incident.

mod messages;

use std::time::Duration;

use kahn_model::{Cause, CauseKind, TaskIx, Timestamp, Usage};

pub use messages::Messages;

/// The kind of a record. The names are those of `kahn events` and are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the variants are their own words")]
pub enum RecordKind {
    RunSubmitted = 0,
    RunPaused = 1,
    RunResumed = 2,
    RunCancelling = 3,
    RunRetried = 4,
    RunSucceeded = 5,
    RunFailed = 6,
    RunCancelled = 7,
    TaskReady = 8,
    TaskLeased = 9,
    TaskReturned = 10,
    TaskStarted = 11,
    TaskSucceeded = 12,
    TaskFailed = 13,
    TaskRetried = 14,
    TaskSkipped = 15,
    TaskCancelled = 16,
    WorkerLost = 17,
}

impl RecordKind {
    /// All kinds, ordered by number.
    pub const ALL: [Self; 18] = [
        Self::RunSubmitted,
        Self::RunPaused,
        Self::RunResumed,
        Self::RunCancelling,
        Self::RunRetried,
        Self::RunSucceeded,
        Self::RunFailed,
        Self::RunCancelled,
        Self::TaskReady,
        Self::TaskLeased,
        Self::TaskReturned,
        Self::TaskStarted,
        Self::TaskSucceeded,
        Self::TaskFailed,
        Self::TaskRetried,
        Self::TaskSkipped,
        Self::TaskCancelled,
        Self::WorkerLost,
    ];

    /// Returns the kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Returns the stable number used in records and on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the stable name used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunSubmitted => "run_submitted",
            Self::RunPaused => "run_paused",
            Self::RunResumed => "run_resumed",
            Self::RunCancelling => "run_cancelling",
            Self::RunRetried => "run_retried",
            Self::RunSucceeded => "run_succeeded",
            Self::RunFailed => "run_failed",
            Self::RunCancelled => "run_cancelled",
            Self::TaskReady => "task_ready",
            Self::TaskLeased => "task_leased",
            Self::TaskReturned => "task_returned",
            Self::TaskStarted => "task_started",
            Self::TaskSucceeded => "task_succeeded",
            Self::TaskFailed => "task_failed",
            Self::TaskRetried => "task_retried",
            Self::TaskSkipped => "task_skipped",
            Self::TaskCancelled => "task_cancelled",
            Self::WorkerLost => "worker_lost",
        }
    }
}

/// An entry in the history of a run. Its sequence number is its index, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When the coordinator decided it.
    pub at: Timestamp,
    /// The exit code or signal of the cause; zero for other causes.
    pub code: i32,
    /// The task, or [`Record::NO_TASK`] for the run itself.
    pub task: u32,
    /// The attempt; zero if the record is not about an attempt.
    pub attempt: u16,
    /// Index in [`crate::Run::workers`] plus one; zero if the record is not about a worker.
    pub worker: u16,
    /// What happened.
    pub kind: RecordKind,
    /// The cause, if there is one.
    pub cause: Option<CauseKind>,
}

impl Record {
    /// Value of [`Record::task`] for records about the run itself.
    pub const NO_TASK: u32 = u32::MAX;

    /// Returns the task that it is about.
    #[must_use]
    pub fn task(&self) -> Option<TaskIx> {
        (self.task != Self::NO_TASK).then_some(TaskIx(self.task))
    }

    /// Returns the cause with its code.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.cause.map(|kind| Cause { kind, code: self.code })
    }
}

/// Resources used by an attempt. Kept only for attempts that used any, or that took at least
/// [`Spent::ELAPSED_MIN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Index of the record in the history, from 0.
    pub record: u32,
    /// Duration measured by the worker, in microseconds; zero if unknown.
    pub elapsed_micros: u64,
    /// CPU time, in microseconds.
    pub cpu_micros: u64,
    /// Peak resident memory of the largest process, in bytes.
    pub memory_peak: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written to storage, including those not yet flushed.
    pub written_bytes: u64,
}

impl Spent {
    /// Shorter attempts that used nothing, such as `noop` tasks, are not kept, to save memory.
    pub const ELAPSED_MIN: Duration = Duration::from_millis(1);

    /// Converts `usage`, or returns `None` if it is not kept.
    pub(crate) fn of(record: u32, usage: Usage) -> Option<Self> {
        let nothing = Usage { elapsed: usage.elapsed, ..Usage::default() };
        let is_kept = usage != nothing || usage.elapsed >= Self::ELAPSED_MIN;
        is_kept.then(|| Self {
            record,
            elapsed_micros: micros_up(usage.elapsed),
            cpu_micros: u64::try_from(usage.cpu.as_micros()).unwrap_or(u64::MAX),
            memory_peak: usage.memory_peak,
            read_bytes: usage.read_bytes,
            written_bytes: usage.written_bytes,
        })
    }
}

/// Converts to microseconds, rounding up, so that no attempt is shown shorter than it was.
fn micros_up(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX)
}

/// Returns when an attempt started and ended, on the coordinator's clock.
///
/// Reports of the start and of the end of an attempt reach the coordinator with different delays,
/// so the time between them can be shorter than the attempt. The returned interval is as long as
/// the worker measured. It starts no later than the report of the start and no earlier than the
/// lease, and ends no later than the report of the end unless the clocks disagree.
///
/// `started_at` is the time of the report of the start, if it came before the report of the end.
/// If `elapsed_micros` is zero, the worker measured nothing, and the times of the reports are
/// returned.
#[must_use]
pub fn attempt_interval(
    leased_at: Timestamp,
    started_at: Option<Timestamp>,
    ended_at: Timestamp,
    elapsed_micros: u64,
) -> (Timestamp, Timestamp) {
    if elapsed_micros == 0 {
        return (started_at.unwrap_or(ended_at), ended_at);
    }
    let latest = Timestamp(ended_at.0.saturating_sub(elapsed_micros)).max(leased_at);
    let start = started_at.map_or(latest, |started| started.min(latest));
    (start, Timestamp(start.0.saturating_add(elapsed_micros)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(leased: u64, started: Option<u64>, ended: u64, elapsed: u64) -> (u64, u64) {
        let started = started.map(Timestamp);
        let (start, end) = attempt_interval(Timestamp(leased), started, Timestamp(ended), elapsed);
        (start.0, end.0)
    }

    #[test]
    fn an_attempt_is_as_long_as_its_worker_measured() {
        // The start was heard of late, the end at once.
        assert_eq!(interval(100, Some(118), 310, 200), (110, 310));
        // The start was heard of at once, the end late.
        assert_eq!(interval(100, Some(110), 350, 200), (110, 310));
        // Both came as one report.
        assert_eq!(interval(100, None, 350, 200), (150, 350));
        // Of a lost worker nothing is heard.
        assert_eq!(interval(100, Some(110), 350, 0), (110, 350));
        // The clocks disagree.
        assert_eq!(interval(100, Some(101), 200, 900), (100, 1000));
    }
}
