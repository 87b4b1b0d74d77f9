//! Waiting for a condition.

use std::thread::sleep;
use std::time::Duration;

const PERIOD: Duration = Duration::from_millis(20);
const PERIODS_MAX: u32 = 3_000;

/// Blocks until a condition holds, for a minute at most.
///
/// # Panics
///
/// Panics if it does not hold by then.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..PERIODS_MAX {
        if holds() {
            return;
        }
        sleep(PERIOD); // poll
    }
    panic!("{what}: not within {:?}", PERIOD * PERIODS_MAX);
}
