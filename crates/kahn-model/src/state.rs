//! The states of runs and tasks.

use std::fmt;

/// The state of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TaskState {
    /// Waiting for its dependencies or its condition.
    #[default]
    Pending = 0,
    /// Can be leased.
    Ready = 1,
    /// Leased to a worker, not yet known to have started.
    Leased = 2,
    /// Started on a worker.
    Running = 3,
    /// Waiting before its next attempt.
    BackingOff = 4,
    /// Ended successfully.
    Succeeded = 5,
    /// Failed permanently.
    Failed = 6,
    /// Did not run, because it was not wanted or not possible.
    Skipped = 7,
    /// Cancelled.
    Cancelled = 8,
}

impl TaskState {
    /// All states, ordered by number.
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

    /// Returns whether the state is final, unless the run is retried.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self >= Self::Succeeded
    }

    /// Returns whether a worker holds an attempt.
    #[must_use]
    pub fn is_held(self) -> bool {
        matches!(self, Self::Leased | Self::Running)
    }

    /// Returns the number used in records and on the wire. Stable.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the state with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Returns the name used in JSON and on the terminal. Stable.
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

/// The state of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RunState {
    /// Has unfinished tasks.
    #[default]
    Active = 0,
    /// Starts no new attempts until it is resumed.
    Paused = 1,
    /// Being cancelled: waits for leased attempts to end.
    Cancelling = 2,
    /// All tasks succeeded or were skipped.
    Succeeded = 3,
    /// At least one task failed.
    Failed = 4,
    /// Cancelled.
    Cancelled = 5,
}

impl RunState {
    /// All states, ordered by number.
    pub const ALL: [Self; 6] = [
        Self::Active,
        Self::Paused,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Returns whether the state is final, unless the run is retried.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self >= Self::Succeeded
    }

    /// Returns the number used in records and on the wire. Stable.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the state with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Returns the name used in JSON and on the terminal. Stable.
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
