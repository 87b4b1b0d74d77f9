//! Why something ended otherwise than hoped: a closed list of causes.

use std::fmt;

use crate::limits;

/// The kinds of cause. Retry policies name them, and reports carry them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CauseKind {
    /// The process ended with a code other than zero.
    ExitCode = 0,
    /// A signal ended the process.
    Signal = 1,
    /// The attempt used more memory than it asked for.
    OutOfMemory = 2,
    /// The task was ready for longer than its queue timeout.
    QueueTimeout = 3,
    /// The attempt did not start within its start timeout.
    StartTimeout = 4,
    /// The attempt ran for longer than its run timeout.
    RunTimeout = 5,
    /// The worker that held the attempt is gone.
    WorkerLost = 6,
    /// The worker was told to give the attempt up.
    Preempted = 7,
    /// The program or image could not be started.
    Image = 8,
    /// No known worker has what the task asks for.
    Infeasible = 9,
    /// A dependency did not end as the task needs it.
    Dependency = 10,
    /// Somebody cancelled it, or the run's failure policy did.
    Cancelled = 11,
    /// A rule of the cluster forbids it.
    Policy = 12,
    /// The condition of the task is false.
    Condition = 13,
    /// An expression could not be evaluated.
    Expression = 14,
    /// The run passed its deadline.
    Deadline = 15,
    /// A breaker is open for what the task would call.
    CircuitOpen = 16,
    /// The function raised an exception or gave an error.
    Exception = 17,
    /// The function panicked.
    Panic = 18,
    /// The answer had a status that was not expected.
    HttpStatus = 19,
    /// What was called could not be reached, or did not answer in time.
    Unreachable = 20,
}

impl CauseKind {
    /// All kinds there are, in order of their numbers.
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

    /// The word for it in files and JSON; stable.
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

    /// Whether the fault lies with the cluster and not with the task: such attempts are tried
    /// again without spending the task's own retries, up to the crash limit.
    #[must_use]
    pub fn is_infrastructure(self) -> bool {
        matches!(self, Self::WorkerLost | Self::Preempted)
    }

    /// The kind with this number, as [`CauseKind::number`] gives it.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Its number in records and on the wire; stable.
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

/// A word that names no cause.
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

/// A cause with its number, where it has one: the exit code, the signal or the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cause {
    /// Which kind.
    pub kind: CauseKind,
    /// The exit code, the signal or the HTTP status; zero for the other kinds.
    pub code: i32,
}

impl Cause {
    /// A cause that carries no number.
    #[must_use]
    pub const fn of(kind: CauseKind) -> Self {
        Self { kind, code: 0 }
    }

    /// A process ended with this code.
    #[must_use]
    pub const fn exit_code(code: i32) -> Self {
        Self { kind: CauseKind::ExitCode, code }
    }

    /// This signal ended the process.
    #[must_use]
    pub const fn signal(code: i32) -> Self {
        Self { kind: CauseKind::Signal, code }
    }

    /// An answer had this status.
    #[must_use]
    pub const fn http_status(code: u16) -> Self {
        // A widening, which `From` cannot do in a constant.
        Self { kind: CauseKind::HttpStatus, code: code as i32 }
    }
}

/// The words that people read: `out of memory`, `exit code 3`.
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

/// A cause with words for a person.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Failure {
    /// Why.
    pub cause: Cause,
    /// What a person should know beside the cause; may be empty.
    pub message: Box<str>,
    /// The type of the exception that was raised, with its modules; empty when there was none.
    pub exception: Box<str>,
}

impl Failure {
    /// A failure with its message, cut to [`limits::MESSAGE_BYTES_MAX`].
    #[must_use]
    pub fn new(cause: Cause, message: &str) -> Self {
        let message = cut(message, limits::MESSAGE_BYTES_MAX).into();
        Self { cause, message, exception: "".into() }
    }

    /// The same failure, of an exception of this type.
    #[must_use]
    pub fn raised(self, exception: &str) -> Self {
        Self { exception: cut(exception, limits::EXCEPTION_BYTES_MAX).into(), ..self }
    }

    /// A failure that its cause explains.
    #[must_use]
    pub fn of(kind: CauseKind) -> Self {
        Self::new(Cause::of(kind), "")
    }
}

/// As much of a text as has `max` bytes or fewer.
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

/// A set of kinds of cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CauseSet(u32);

impl CauseSet {
    /// No cause.
    pub const EMPTY: Self = Self(0);

    /// What a retry policy retries when it does not say: everything that another try may mend.
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

    /// The set with `kind` in it.
    #[must_use]
    pub fn with(self, kind: CauseKind) -> Self {
        Self(self.0 | (1 << kind.number()))
    }

    /// Whether `kind` is in the set.
    #[must_use]
    pub fn contains(self, kind: CauseKind) -> bool {
        self.0 & (1 << kind.number()) != 0
    }

    /// The set as bits, by [`CauseKind::number`].
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The set with these bits; unknown bits are dropped.
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
