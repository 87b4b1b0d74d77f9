//! Limits the progress lines in a pipe: suppresses lines beyond a rate and counts them.

use kahn_model::Timestamp;

/// Maximum lines per second.
const LINES_MAX: u32 = 20;
/// Maximum urgent lines (failures) per run that are exempt from the rate.
const URGENT_MAX: u32 = 200;
const WINDOW_MICROS: u64 = 1_000_000;

/// Limits the rate of lines and counts the suppressed ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Throttle {
    window_began_at: Timestamp,
    n_in_window: u32,
    n_urgent: u32,
    n_held: u64,
}

impl Throttle {
    /// Returns whether a line may be printed at `now`. Urgent lines have a separate allowance.
    pub(crate) fn admits(&mut self, now: Timestamp, is_urgent: bool) -> bool {
        if is_urgent && self.n_urgent < URGENT_MAX {
            self.n_urgent += 1;
            return true;
        }
        if now.0.saturating_sub(self.window_began_at.0) >= WINDOW_MICROS {
            self.window_began_at = now;
            self.n_in_window = 0;
        }
        if self.n_in_window < LINES_MAX {
            self.n_in_window += 1;
            return true;
        }
        self.n_held += 1;
        false
    }

    /// Returns the number of suppressed lines once their second is over, and resets the count.
    pub(crate) fn held(&mut self, now: Timestamp) -> Option<u64> {
        let is_over = now.0.saturating_sub(self.window_began_at.0) >= WINDOW_MICROS;
        (is_over && self.n_held > 0).then(|| std::mem::take(&mut self.n_held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_its_allowance_and_the_rest_is_counted() {
        let mut throttle = Throttle::default();
        let now = Timestamp(5_000_000);
        let n_admitted = (0..1000).filter(|_| throttle.admits(now, false)).count();
        assert_eq!(n_admitted, 20);
        assert_eq!(throttle.held(Timestamp(5_900_000)), None);
        assert_eq!(throttle.held(Timestamp(6_000_000)), Some(980));
        assert_eq!(throttle.held(Timestamp(6_000_000)), None);
        assert!(throttle.admits(Timestamp(6_000_000), false));
    }

    #[test]
    fn failures_get_through_a_flood_up_to_a_limit() {
        let mut throttle = Throttle::default();
        let now = Timestamp(5_000_000);
        while throttle.admits(now, false) {}
        assert_eq!((0..1000).filter(|_| throttle.admits(now, true)).count(), 200);
    }
}
