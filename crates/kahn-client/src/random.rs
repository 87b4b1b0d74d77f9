//! Randomness for retry delays and for idempotency keys.

use std::time::Duration;

/// Returns a random duration between half of `ceiling` and `ceiling`, or `ceiling` if the system
/// has no randomness.
pub(crate) fn jittered(ceiling: Duration) -> Duration {
    let share = getrandom::u32().map_or(1.0, |bits| f64::from(bits) / f64::from(u32::MAX));
    ceiling / 2 + (ceiling / 2).mul_f64(share)
}

/// Returns a unique key: a UUID that begins with the time, so that keys sort by age.
pub(crate) fn key() -> String {
    uuid::Uuid::now_v7().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_half_and_whole() {
        let ceiling = Duration::from_secs(1);
        for _ in 0..100 {
            let drawn = jittered(ceiling);
            assert!(ceiling / 2 <= drawn && drawn <= ceiling, "{drawn:?}");
        }
    }

    #[test]
    fn keys_differ_and_grow_with_time() {
        let (one, other) = (key(), key());
        assert!(one < other, "{one} {other}");
    }
}
