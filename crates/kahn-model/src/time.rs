//! Points in time, as numbers. Nothing here asks a clock.

use std::ops::Add;
use std::time::Duration;

/// Microseconds since 1970-01-01T00:00:00Z, on the clock of whoever stamped it.
///
/// Stamps of two machines are shown to people and never compared to decide anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The earliest stamp.
    pub const ZERO: Self = Self(0);

    /// The time from `earlier` to here; zero when `earlier` is the later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    /// Moves forward, and stops at the end of time.
    fn add(self, span: Duration) -> Self {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}
