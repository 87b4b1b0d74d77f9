//! Durations, encoded as nanoseconds.

use std::time::Duration;

/// Returns the nanoseconds, truncated at 584 years.
pub(crate) fn to_wire(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Like [`to_wire`], for an optional duration.
pub(crate) fn opt_to_wire(span: Option<Duration>) -> Option<u64> {
    span.map(to_wire)
}

/// Decodes an optional duration. Any number of nanoseconds is valid.
pub(crate) fn opt_from_wire(nanos: Option<u64>) -> Option<Duration> {
    nanos.map(Duration::from_nanos)
}
