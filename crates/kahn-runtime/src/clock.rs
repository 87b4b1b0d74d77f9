//! The only place that reads the current time.
//!
//! Everything else receives microseconds since the Unix epoch. Clocks of different hosts are never
//! compared. The guarantee is order within the history of one coordinator: a [`Clock`] never goes
//! backwards, not even across a restart if it starts after the last recorded time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use tokio::time::Instant;

/// A monotonic wall clock: the wall time at its start plus the monotonic time elapsed since.
///
/// Later adjustments of the system clock are ignored. With tokio's paused test time it only
/// advances with `tokio::time::advance`.
#[derive(Clone, Debug)]
pub struct Clock {
    started_at: Instant,
    origin_micros: u64,
    ahead: Duration,
}

impl Clock {
    /// Starts at the current wall time.
    #[must_use]
    pub fn start() -> Self {
        Self::from_wall(wall_micros(), 0)
    }

    /// Starts at the current wall time, or just after `last_seen_micros` if that is later.
    ///
    /// `last_seen_micros` is the latest recorded time, in microseconds since the Unix epoch.
    #[must_use]
    pub fn starting_after(last_seen_micros: u64) -> Self {
        Self::from_wall(wall_micros(), last_seen_micros.saturating_add(1))
    }

    fn from_wall(wall: u64, earliest: u64) -> Self {
        let ahead = Duration::from_micros(earliest.saturating_sub(wall));
        Self { started_at: Instant::now(), origin_micros: wall.max(earliest), ahead }
    }

    /// Returns microseconds since the Unix epoch; never less than an earlier result of this clock.
    #[must_use]
    pub fn unix_micros(&self) -> u64 {
        let elapsed = u64::try_from(self.started_at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.origin_micros.saturating_add(elapsed)
    }

    /// Returns how far this clock started ahead of the wall clock because of recorded time.
    ///
    /// Normally zero; more than a few seconds means that a clock was wrong and deserves a warning.
    #[must_use]
    pub fn ahead_of_wall(&self) -> Duration {
        self.ahead
    }
}

/// Returns the system's wall clock, or 0 if it is set before 1970.
#[expect(clippy::disallowed_methods, reason = "the only place that reads the wall clock")]
fn wall_micros() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// A string that is not a time such as `2026-01-01T00:00:00.000000Z`, or a time before 1970.
#[derive(Debug, thiserror::Error)]
pub enum TimeError {
    /// Not an RFC 3339 time.
    #[error("{text:?} is not a time such as 2026-01-01T00:00:00Z: {source}")]
    Malformed {
        /// The input.
        text: String,
        /// The parse error.
        source: jiff::Error,
    },
    /// The time is before 1970.
    #[error("{text:?} is before 1970")]
    BeforeEpoch {
        /// The input.
        text: String,
    },
}

/// Formats microseconds since the Unix epoch as `2026-01-01T00:00:00.000000Z`.
///
/// Times after the year 9999 are formatted as the latest time that RFC 3339 can express.
#[must_use]
pub fn format_micros(unix_micros: u64) -> String {
    let at = i64::try_from(unix_micros)
        .ok()
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .unwrap_or(Timestamp::MAX);
    format!("{at:.6}")
}

/// Parses an RFC 3339 time with any offset into microseconds since the Unix epoch.
///
/// Digits beyond microseconds are dropped.
///
/// # Errors
///
/// Returns a [`TimeError`] for any other format and for times before 1970.
pub fn parse_micros(text: &str) -> Result<u64, TimeError> {
    let at: Timestamp =
        text.parse().map_err(|source| TimeError::Malformed { text: text.to_owned(), source })?;
    u64::try_from(at.as_microsecond()).map_err(|_| TimeError::BeforeEpoch { text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_moves_with_the_monotonic_clock() {
        let clock = Clock::start();
        let before = clock.unix_micros();
        tokio::time::advance(Duration::from_micros(1_500)).await;
        assert_eq!(clock.unix_micros() - before, 1_500);
        assert_eq!(clock.ahead_of_wall(), Duration::ZERO);
    }

    #[test]
    fn time_does_not_step_back_across_a_restart() {
        let future = Clock::start().unix_micros() + 3_600_000_000;
        let restarted = Clock::starting_after(future);
        assert!(restarted.unix_micros() > future);
        assert!(Duration::from_secs(3_590) < restarted.ahead_of_wall());
    }

    #[test]
    fn a_last_seen_time_in_the_past_does_not_change_the_clock() {
        let wall = wall_micros();
        let clock = Clock::starting_after(1);
        assert!(wall <= clock.unix_micros());
        assert_eq!(clock.ahead_of_wall(), Duration::ZERO);
    }

    #[test]
    fn times_are_written_with_six_digits_and_read_back() {
        assert_eq!(format_micros(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(format_micros(1_767_225_600_000_001), "2026-01-01T00:00:00.000001Z");
        for micros in [0, 1, 1_767_225_600_000_000, 253_402_207_199_999_999] {
            assert_eq!(parse_micros(&format_micros(micros)).unwrap(), micros);
        }
        assert!(format_micros(u64::MAX).starts_with("9999-12-3"));
    }

    #[test]
    fn offsets_are_parsed_and_other_formats_are_refused() {
        assert_eq!(parse_micros("1970-01-01T01:00:00+01:00").unwrap(), 0);
        assert!(matches!(parse_micros("yesterday"), Err(TimeError::Malformed { .. })));
        assert!(matches!(parse_micros("1969-12-31T23:59:59Z"), Err(TimeError::BeforeEpoch { .. })));
    }
}
