//! Waits for conditions with a timeout and a description.

use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until `condition` holds.
///
/// # Errors
///
/// Returns an error if it does not within `timeout`. The message contains `what`.
pub fn wait_until(
    what: &str,
    timeout: Duration,
    mut condition: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    wait_for(what, timeout, || condition().then_some(()))
}

/// Waits until `look` returns a value.
///
/// # Errors
///
/// Returns an error if it does not within `timeout`. The message contains `what`.
pub fn wait_for<T>(
    what: &str,
    timeout: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let mut left = timeout;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        anyhow::ensure!(!left.is_zero(), "waited {timeout:?} for {what}");
        let step = left.min(LOOK_EVERY);
        std::thread::sleep(step); // poll
        left -= step;
    }
}
