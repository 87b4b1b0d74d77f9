//! The resource usage and the outputs of an attempt.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::limits;

/// The resource usage of an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usage {
    /// Wall time from start to end, on the worker's clock.
    pub elapsed: Duration,
    /// Processor time of the whole process tree.
    pub cpu: Duration,
    /// Maximum resident memory of any single process of the attempt, in bytes. For an attempt that
    /// ran out of memory, its memory limit. Zero if unknown, for example if a process ended before
    /// the first measurement.
    pub memory_peak: u64,
    /// Bytes read from storage by the processes that were waited for. Reads from the page cache do
    /// not count.
    pub read_bytes: u64,
    /// Bytes that were or will be written to storage by the processes that were waited for.
    pub written_bytes: u64,
}

/// An output value of a task: JSON.
///
/// Stored as JSON text, because only expressions look inside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(Box<str>);

impl Value {
    /// Creates a value from JSON text, which the caller has validated.
    #[must_use]
    pub fn from_json(json: impl Into<Box<str>>) -> Self {
        Self(json.into())
    }

    /// Returns the JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

/// The named output values of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outputs(pub BTreeMap<Box<str>, Value>);

impl Outputs {
    /// Returns the total size of names and values in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.0.len()).sum()
    }

    /// Returns whether the outputs are small enough to be stored with the run.
    #[must_use]
    pub fn is_within_limit(&self) -> bool {
        self.len_bytes() <= limits::OUTPUT_BYTES_MAX
    }
}
