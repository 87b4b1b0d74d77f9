//! What happened in a run, as it is shown: one small record each.

mod messages;

use std::time::Duration;

use kahn_model::{Cause, CauseKind, TaskIx, Timestamp, Usage};

pub use messages::Messages;

/// What kind of thing happened. The words are those of `kahn events` and are stable.
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
    /// All kinds there are, in order of their numbers.
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

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Its number in records and on the wire; stable.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The word for it in JSON; stable.
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

/// One thing that happened in a run. Its sequence number is its position, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When the coordinator decided it.
    pub at: Timestamp,
    /// The exit code or signal of the cause; zero for other causes.
    pub code: i32,
    /// The task; [`Record::NO_TASK`] for the run itself.
    pub task: u32,
    /// The attempt; zero where none is meant.
    pub attempt: u16,
    /// Position in [`crate::Run::workers`], plus one; zero where none is meant.
    pub worker: u16,
    /// What happened.
    pub kind: RecordKind,
    /// Why, where there is a why.
    pub cause: Option<CauseKind>,
}

impl Record {
    /// Stands in [`Record::task`] for the run itself.
    pub const NO_TASK: u32 = u32::MAX;

    /// The task that it is about.
    #[must_use]
    pub fn task(&self) -> Option<TaskIx> {
        (self.task != Self::NO_TASK).then_some(TaskIx(self.task))
    }

    /// The cause with its number.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.cause.map(|kind| Cause { kind, code: self.code })
    }
}

/// What an attempt used, beside the record of its end. Only where it used anything, or took
/// [`Spent::ELAPSED_MIN`] and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Position of the record in the history, from 0.
    pub record: u32,
    /// From its start to its end as the worker measured it, in microseconds; zero if not known.
    pub elapsed_micros: u64,
    /// Processor time, in microseconds.
    pub cpu_micros: u64,
    /// Largest resident memory of any one process, in bytes.
    pub memory_peak: u64,
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written that are or will be on storage.
    pub written_bytes: u64,
}

impl Spent {
    /// Shorter attempts that used nothing, such as `noop` tasks, are not worth the memory.
    pub const ELAPSED_MIN: Duration = Duration::from_millis(1);

    /// What `usage` says, if that is worth keeping.
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

/// Microseconds, rounded up: an attempt is never shown shorter than it was.
fn micros_up(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX)
}

/// When an attempt ran, on the coordinator's clock.
///
/// The coordinator hears of the start and of the end of an attempt some time after each, so the
/// time between both can be shorter than the attempt. The worker measures how long the attempt
/// took. The interval returned is as long as that, begins no later than the start was heard of,
/// ends no later than the end was heard of, and does not begin before the lease was granted unless
/// the clocks disagree.
///
/// `started_at` is when the coordinator heard of the start, if it did before the end. Where
/// `elapsed_micros` is zero, the worker measured nothing and the coordinator's own times are used.
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
