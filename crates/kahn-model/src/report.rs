//! What an attempt leaves behind: what it used and what it gave.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::limits;

/// What an attempt used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Usage {
    /// From start to end, on the worker's clock.
    pub elapsed: Duration,
    /// Processor time of the whole process tree.
    pub cpu: Duration,
    /// Largest resident memory of any one process of the attempt, in bytes; of an attempt that ran
    /// out of memory, what it was held to. Zero when that is not known, as of a process that ended
    /// before anybody looked.
    pub memory_peak: u64,
    /// Bytes read from storage, by the processes that were waited for; what was in memory already
    /// does not count.
    pub read_bytes: u64,
    /// Bytes written that are or will be on storage, likewise.
    pub written_bytes: u64,
}

/// A value that a task gave: JSON.
///
/// Kept as its JSON text, since nothing below the expressions looks inside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(Box<str>);

impl Value {
    /// A value from JSON text that the caller has checked.
    #[must_use]
    pub fn from_json(json: impl Into<Box<str>>) -> Self {
        Self(json.into())
    }

    /// The JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

/// The named values that a task gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outputs(pub BTreeMap<Box<str>, Value>);

impl Outputs {
    /// Names and values together, in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.0.len()).sum()
    }

    /// Whether they are small enough to be kept with the run.
    #[must_use]
    pub fn is_within_limit(&self) -> bool {
        self.len_bytes() <= limits::OUTPUT_BYTES_MAX
    }
}
