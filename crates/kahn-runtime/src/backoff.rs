//! Delays between connection attempts.
//!
//! Exponential backoff with full jitter, so that a thousand workers that lost the same coordinator
//! do not reconnect in the same millisecond. It only computes delays; the caller sleeps.

use std::time::Duration;

/// Doubles an upper bound on each try and draws each delay uniformly between zero and that bound.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    n_tries: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// Creates a backoff whose upper bound grows from `initial` to `max`, with a random seed.
    #[must_use]
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self::from_rng(initial, max, fastrand::Rng::new())
    }

    /// Like [`Backoff::new`], but the same seed always produces the same delays.
    #[must_use]
    pub fn seeded(initial: Duration, max: Duration, seed: u64) -> Self {
        Self::from_rng(initial, max, fastrand::Rng::with_seed(seed))
    }

    fn from_rng(initial: Duration, max: Duration, random: fastrand::Rng) -> Self {
        Self { initial, max, n_tries: 0, random }
    }

    /// Returns the delay before the next try, with microsecond resolution.
    pub fn next_delay(&mut self) -> Duration {
        let factor = 1_u32.checked_shl(self.n_tries).unwrap_or(u32::MAX);
        let ceiling = self.initial.saturating_mul(factor).min(self.max);
        self.n_tries = self.n_tries.saturating_add(1);
        let micros = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random.u64(0..=micros))
    }

    /// Returns the number of delays drawn since creation or the last [`Backoff::reset`].
    #[must_use]
    pub fn n_tries(&self) -> u32 {
        self.n_tries
    }

    /// Starts again at `initial`, after a successful connection.
    pub fn reset(&mut self) {
        self.n_tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITIAL: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(30);

    #[test]
    fn the_same_seed_gives_the_same_delays() {
        let delays = |seed| {
            let mut backoff = Backoff::seeded(INITIAL, MAX, seed);
            (0..50).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        assert_eq!(delays(7), delays(7));
        assert_ne!(delays(7), delays(8));
    }

    #[test]
    fn delays_stay_below_a_ceiling_that_doubles_up_to_the_maximum() {
        for seed in 0..200 {
            let mut backoff = Backoff::seeded(INITIAL, MAX, seed);
            let mut ceiling = INITIAL;
            for _ in 0..80 {
                assert!(backoff.next_delay() <= ceiling);
                ceiling = (ceiling * 2).min(MAX);
            }
        }
    }

    #[test]
    fn delays_spread_over_the_whole_range() {
        let mut late: Vec<Duration> =
            (0..200).map(|seed| Backoff::seeded(MAX, MAX, seed).next_delay()).collect();
        late.sort();
        assert!(late[20] < MAX / 4 && MAX / 4 * 3 < late[180], "{:?} {:?}", late[20], late[180]);
    }

    #[test]
    fn a_reset_begins_at_the_initial_ceiling() {
        let mut backoff = Backoff::seeded(INITIAL, MAX, 1);
        for _ in 0..10 {
            backoff.next_delay();
        }
        assert_eq!(backoff.n_tries(), 10);
        backoff.reset();
        assert_eq!(backoff.n_tries(), 0);
        assert!(backoff.next_delay() <= INITIAL);
    }
}
