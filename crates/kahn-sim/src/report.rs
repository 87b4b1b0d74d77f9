//! The result of a simulated seed.

use std::fmt;
use std::time::Duration;

use kahn_model::Timestamp;

/// A violated invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The number of the invariant.
    pub invariant: &'static str,
    /// The virtual time.
    pub at: Timestamp,
    /// A description.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = Duration::from_micros(self.at.0).as_secs_f64();
        write!(f, "{} at {seconds:.6} s: {}", self.invariant, self.message)
    }
}

/// Statistics of a simulated seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Equal for equal seeds.
    pub digest: u64,
    /// The elapsed virtual time.
    pub elapsed: Duration,
    /// The number of events.
    pub n_events: u64,
    /// The number of executions that ended.
    pub n_executions: u64,
    /// The number of terms.
    pub n_terms: u64,
    /// The number of terms that began with the state of a warm standby.
    pub n_warm_takeovers: u64,
    /// The number of times that a run was archived.
    pub n_archived: u64,
    /// The number of times that an archived run was restored.
    pub n_restored: u64,
    /// The number of injected faults.
    pub n_faults: u64,
    /// The number of entries that the store lost.
    pub n_lost_entries: u64,
    /// The first violation, if any.
    pub violation: Option<Violation>,
    /// Every event as one line, if tracing was enabled.
    pub trace: Vec<String>,
}
