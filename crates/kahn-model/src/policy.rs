//! Settings for a whole run.

use std::time::Duration;

/// The reaction of a run to a permanently failed task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailurePolicy {
    /// Continues with all tasks that do not need the failed task.
    #[default]
    Continue,
    /// Cancels all tasks that do not handle the failure.
    FailFast,
    /// Continues until this many tasks have failed, then acts like [`FailurePolicy::FailFast`].
    MaxFailures(u32),
}

/// Settings for a whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunPolicy {
    /// The reaction to failed tasks.
    pub on_failure: FailurePolicy,
    /// Maximum number of concurrently leased attempts of the run.
    pub max_parallel: Option<u32>,
    /// The run is cancelled if it has not ended after this time.
    pub timeout: Option<Duration>,
    /// Tasks of runs with a higher priority are scheduled first within the namespace.
    pub priority: i32,
}
