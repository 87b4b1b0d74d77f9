//! The delay before the next try.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// Delays that double, each with a random factor between one half and one.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    n_failures: u32,
}

impl Backoff {
    /// Returns the next delay. `chance` is a random number from 0 to 1.
    pub(super) fn next(&mut self, chance: f64) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.n_failures.min(10)).min(LONGEST);
        self.n_failures = self.n_failures.saturating_add(1);
        whole.mul_f64(0.5 + chance / 2.0)
    }

    pub(super) fn reset(&mut self) {
        self.n_failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, FIRST, LONGEST};

    #[test]
    fn waits_double_up_to_a_second_and_start_over() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(1.0), FIRST);
        assert_eq!(backoff.next(0.0), FIRST);
        assert_eq!(backoff.next(1.0), FIRST * 4);
        for _ in 0..100 {
            assert!(backoff.next(1.0) <= LONGEST);
        }
        assert_eq!(backoff.next(1.0), LONGEST);
        backoff.reset();
        assert_eq!(backoff.next(1.0), FIRST);
    }
}
