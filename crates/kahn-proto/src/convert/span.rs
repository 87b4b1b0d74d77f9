//! Spans of time, which travel as nanoseconds.

use std::time::Duration;

/// Nanoseconds, cut at 584 years.
pub(crate) fn to_wire(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The same for a span that may be absent.
pub(crate) fn opt_to_wire(span: Option<Duration>) -> Option<u64> {
    span.map(to_wire)
}

/// Any number of nanoseconds is a span.
pub(crate) fn opt_from_wire(nanos: Option<u64>) -> Option<Duration> {
    nanos.map(Duration::from_nanos)
}
