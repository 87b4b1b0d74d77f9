//! The states of runs and tasks.

use std::fmt;

/// Where a task stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TaskState {
    /// Waits for its dependencies or its condition.
    #[default]
    Pending = 0,
    /// May be leased.
    Ready = 1,
    /// Granted to a worker, not known to have started.
    Leased = 2,
    /// Started on a worker.
    Running = 3,
    /// Waits before its next attempt.
    BackingOff = 4,
    /// Ended as hoped.
    Succeeded = 5,
    /// Ended otherwise, for good.
    Failed = 6,
    /// Never ran, since it was not wanted or not possible.
    Skipped = 7,
    /// Was called off.
    Cancelled = 8,
}

impl TaskState {
    /// All states there are, in order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Ready,
        Self::Leased,
        Self::Running,
        Self::BackingOff,
        Self::Succeeded,
        Self::Failed,
        Self::Skipped,
        Self::Cancelled,
    ];

    /// Whether it stays so, unless the run is retried.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self >= Self::Succeeded
    }

    /// Whether a worker holds an attempt.
    #[must_use]
    pub fn is_held(self) -> bool {
        matches!(self, Self::Leased | Self::Running)
    }

    /// Its number in records and on the wire; stable.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The state with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The word for it in JSON and on the terminal; stable.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Running => "running",
            Self::BackingOff => "backing_off",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RunState {
    /// Has tasks to do.
    #[default]
    Active = 0,
    /// Starts nothing new until it is resumed.
    Paused = 1,
    /// Is being called off: waits for what is held to end.
    Cancelling = 2,
    /// All tasks ended as hoped or were skipped.
    Succeeded = 3,
    /// At least one task failed.
    Failed = 4,
    /// Was called off.
    Cancelled = 5,
}

impl RunState {
    /// All states there are, in order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Active,
        Self::Paused,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Whether it stays so, unless the run is retried.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self >= Self::Succeeded
    }

    /// Its number in records and on the wire; stable.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The state with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The word for it in JSON and on the terminal; stable.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for RunState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("unknown run state `{text}`"))
    }
}
