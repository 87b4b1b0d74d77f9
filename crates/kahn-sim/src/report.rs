//! What a simulated seed came to.

use std::fmt;
use std::time::Duration;

use kahn_model::Timestamp;

/// An oracle objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant, by its number.
    pub invariant: &'static str,
    /// When, in virtual time.
    pub at: Timestamp,
    /// What was found.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = Duration::from_micros(self.at.0).as_secs_f64();
        write!(f, "{} at {seconds:.6} s: {}", self.invariant, self.message)
    }
}

/// What a seed did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Equal for equal seeds.
    pub digest: u64,
    /// Virtual time that passed.
    pub elapsed: Duration,
    /// Things that happened.
    pub n_events: u64,
    /// Tasks that ran to an end.
    pub n_executions: u64,
    /// Terms that began.
    pub n_terms: u64,
    /// Faults that were injected.
    pub n_faults: u64,
    /// Entries that the store lost.
    pub n_lost_entries: u64,
    /// The first objection, if there is one.
    pub violation: Option<Violation>,
    /// Every happening as one line, where that was asked for.
    pub trace: Vec<String>,
}
