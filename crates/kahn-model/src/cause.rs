//! The causes of unsuccessful ends: a closed list.

use std::fmt;

use crate::limits;

/// The kinds of causes, used in retry policies and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CauseKind {
    /// The process exited with a code other than zero.
    ExitCode = 0,
    /// The process was terminated by a signal.
    Signal = 1,
    /// The attempt used more memory than requested.
    OutOfMemory = 2,
    /// The task was ready for longer than its queue timeout.
    QueueTimeout = 3,
    /// The attempt did not start within its start timeout.
    StartTimeout = 4,
    /// The attempt ran longer than its run timeout.
    RunTimeout = 5,
    /// The worker that ran the attempt was lost.
    WorkerLost = 6,
    /// The worker was told to give up the attempt.
    Preempted = 7,
    /// The program or the image could not be started.
    Image = 8,
    /// No known worker satisfies the requirements of the task.
    Infeasible = 9,
    /// A dependency did not end in the required state.
    Dependency = 10,
    /// Cancelled by a user or by the failure policy of the run.
    Cancelled = 11,
    /// Forbidden by a rule of the cluster.
    Policy = 12,
    /// The condition of the task is false.
    Condition = 13,
    /// An expression could not be evaluated.
    Expression = 14,
    /// The run exceeded its deadline.
    Deadline = 15,
    /// The circuit breaker of the target is open.
    CircuitOpen = 16,
    /// The function raised an exception or returned an error.
    Exception = 17,
    /// The function panicked.
    Panic = 18,
    /// The response had an unexpected status.
    HttpStatus = 19,
    /// The target could not be reached, or did not respond in time.
    Unreachable = 20,
}

impl CauseKind {
    /// All kinds, ordered by number.
    pub const ALL: [Self; 21] = [
        Self::ExitCode,
        Self::Signal,
        Self::OutOfMemory,
        Self::QueueTimeout,
        Self::StartTimeout,
        Self::RunTimeout,
        Self::WorkerLost,
        Self::Preempted,
        Self::Image,
        Self::Infeasible,
        Self::Dependency,
        Self::Cancelled,
        Self::Policy,
        Self::Condition,
        Self::Expression,
        Self::Deadline,
        Self::CircuitOpen,
        Self::Exception,
        Self::Panic,
        Self::HttpStatus,
        Self::Unreachable,
    ];

    /// Returns the name used in files and JSON. Stable.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExitCode => "exit_code",
            Self::Signal => "signal",
            Self::OutOfMemory => "out_of_memory",
            Self::QueueTimeout => "queue_timeout",
            Self::StartTimeout => "start_timeout",
            Self::RunTimeout => "run_timeout",
            Self::WorkerLost => "worker_lost",
            Self::Preempted => "preempted",
            Self::Image => "image",
            Self::Infeasible => "infeasible",
            Self::Dependency => "dependency",
            Self::Cancelled => "cancelled",
            Self::Policy => "policy",
            Self::Condition => "condition",
            Self::Expression => "expression",
            Self::Deadline => "deadline",
            Self::CircuitOpen => "circuit_open",
            Self::Exception => "exception",
            Self::Panic => "panic",
            Self::HttpStatus => "http_status",
            Self::Unreachable => "unreachable",
        }
    }

    /// Returns whether the cluster is at fault and not the task. Such attempts are retried without
    /// using up the retries of the task, up to the crash limit.
    #[must_use]
    pub fn is_infrastructure(self) -> bool {
        matches!(self, Self::WorkerLost | Self::Preempted)
    }

    /// Returns the kind with this number, the inverse of [`CauseKind::number`].
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Returns the number used in records and on the wire. Stable.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for CauseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error for an unknown name of a cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown cause `{0}`")]
pub struct UnknownCause(pub String);

impl std::str::FromStr for CauseKind {
    type Err = UnknownCause;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownCause(text.into()))
    }
}

/// A cause with its code, if it has one: the exit code, the signal or the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cause {
    /// The kind.
    pub kind: CauseKind,
    /// The exit code, the signal or the HTTP status; zero for other kinds.
    pub code: i32,
}

impl Cause {
    /// Creates a cause without a code.
    #[must_use]
    pub const fn of(kind: CauseKind) -> Self {
        Self { kind, code: 0 }
    }

    /// Creates the cause of a process that exited with this code.
    #[must_use]
    pub const fn exit_code(code: i32) -> Self {
        Self { kind: CauseKind::ExitCode, code }
    }

    /// Creates the cause of a process that was terminated by this signal.
    #[must_use]
    pub const fn signal(code: i32) -> Self {
        Self { kind: CauseKind::Signal, code }
    }

    /// Creates the cause of a response with this status.
    #[must_use]
    pub const fn http_status(code: u16) -> Self {
        // A widening cast, because `From` is not available in const functions.
        Self { kind: CauseKind::HttpStatus, code: code as i32 }
    }
}

/// Human-readable text: `out of memory`, `exit code 3`.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            CauseKind::ExitCode => write!(f, "exit code {}", self.code),
            CauseKind::Signal => write!(f, "signal {}", self.code),
            CauseKind::HttpStatus => write!(f, "http status {}", self.code),
            kind => f.write_str(&kind.as_str().replace('_', " ")),
        }
    }
}

/// A cause with a message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Failure {
    /// The cause.
    pub cause: Cause,
    /// Details beyond the cause; may be empty.
    pub message: Box<str>,
    /// The qualified type name of the exception; empty if there was none.
    pub exception: Box<str>,
}

impl Failure {
    /// Creates a failure. The message is truncated to [`limits::MESSAGE_BYTES_MAX`].
    #[must_use]
    pub fn new(cause: Cause, message: &str) -> Self {
        let message = cut(message, limits::MESSAGE_BYTES_MAX).into();
        Self { cause, message, exception: "".into() }
    }

    /// Sets the type of the exception.
    #[must_use]
    pub fn raised(self, exception: &str) -> Self {
        Self { exception: cut(exception, limits::EXCEPTION_BYTES_MAX).into(), ..self }
    }

    /// Creates a failure without a message.
    #[must_use]
    pub fn of(kind: CauseKind) -> Self {
        Self::new(Cause::of(kind), "")
    }
}

/// Returns the longest prefix of at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.message {
            "" => self.cause.fmt(f),
            message => write!(f, "{}: {message}", self.cause),
        }
    }
}

/// A set of cause kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CauseSet(u32);

impl CauseSet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// Returns the default of retry policies: all causes that a retry may fix.
    #[must_use]
    pub fn retryable() -> Self {
        Self::EMPTY
            .with(CauseKind::ExitCode)
            .with(CauseKind::Signal)
            .with(CauseKind::OutOfMemory)
            .with(CauseKind::StartTimeout)
            .with(CauseKind::RunTimeout)
            .with(CauseKind::Exception)
            .with(CauseKind::Panic)
            .with(CauseKind::HttpStatus)
            .with(CauseKind::Unreachable)
    }

    /// Adds `kind` to the set.
    #[must_use]
    pub fn with(self, kind: CauseKind) -> Self {
        Self(self.0 | (1 << kind.number()))
    }

    /// Returns whether the set contains `kind`.
    #[must_use]
    pub fn contains(self, kind: CauseKind) -> bool {
        self.0 & (1 << kind.number()) != 0
    }

    /// Returns the set as bits, indexed by [`CauseKind::number`].
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Creates a set from bits; unknown bits are ignored.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & ((1 << CauseKind::ALL.len()) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_keeps_its_number_and_its_word() {
        for (position, kind) in CauseKind::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(kind.number()), position);
            assert_eq!(CauseKind::from_number(kind.number()), Some(kind));
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert_eq!(CauseKind::from_number(21), None);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let failure = Failure::new(Cause::exit_code(1), &"é".repeat(limits::MESSAGE_BYTES_MAX));
        assert_eq!(failure.message.len(), limits::MESSAGE_BYTES_MAX);
    }
}
