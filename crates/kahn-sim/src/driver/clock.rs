//! The clock of a leadership, which may run slower or faster than real time.

use std::time::Duration;

use kahn_model::Timestamp;

/// The rate of an exact clock, in thousandths.
pub(crate) const EXACT: u32 = 1000;

/// A monotonic clock that starts at a wall time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began_at: Timestamp,
    origin: Timestamp,
    /// Thousandths of the rate of real time.
    rate: u32,
}

impl Clock {
    /// Starts a clock that shows `origin` at the real time `began_at`.
    pub(crate) fn new(began_at: Timestamp, origin: Timestamp, rate: u32) -> Self {
        Self { began_at, origin, rate }
    }

    pub(crate) fn began_at(self) -> Timestamp {
        self.began_at
    }

    pub(crate) fn origin(self) -> Timestamp {
        self.origin
    }

    /// Returns what the clock shows at a real time.
    pub(crate) fn at(self, real: Timestamp) -> Timestamp {
        self.origin + self.elapsed(self.began_at, real)
    }

    /// Returns the time that the clock measures between two real times.
    pub(crate) fn elapsed(self, from: Timestamp, to: Timestamp) -> Duration {
        to.since(from) * self.rate / EXACT
    }

    /// Returns the real time at which the clock shows `shown`.
    pub(crate) fn when(self, shown: Timestamp) -> Timestamp {
        let elapsed = shown.since(self.origin) * EXACT;
        // Rounded up, so that the clock has certainly reached it.
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.began_at + Duration::from_micros(micros.div_ceil(u64::from(self.rate)))
    }

    /// Returns how long this clock may count on a span of another host, whose clock may run faster.
    pub(crate) fn certain(self, span: Duration) -> Duration {
        if self.rate == EXACT { span } else { span * 9 / 10 }
    }
}
