//! Rules for a whole run.

use std::time::Duration;

/// What a run does when a task has failed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailurePolicy {
    /// Goes on with everything that does not need the failed task.
    #[default]
    Continue,
    /// Cancels all that is not there to handle the failure.
    FailFast,
    /// Goes on until this many tasks have failed, then as [`FailurePolicy::FailFast`].
    MaxFailures(u32),
}

/// Rules for a whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunPolicy {
    /// What to do about failed tasks.
    pub on_failure: FailurePolicy,
    /// Most attempts of the run that may be leased at one time.
    pub max_parallel: Option<u32>,
    /// The run is cancelled when it has not ended after this time.
    pub timeout: Option<Duration>,
    /// Its tasks go before those of runs of a lower priority in the same namespace.
    pub priority: i32,
}
