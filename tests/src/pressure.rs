//! Measures how busy the host is.

use std::time::Duration;

/// Returns how long tasks of this host have waited for a processor since it was started: the
/// `some` line of `/proc/pressure/cpu`. Returns `None` if the kernel does not report it.
#[must_use]
pub fn cpu_pressure() -> Option<Duration> {
    let file = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    let some = file.lines().find(|line| line.starts_with("some "))?;
    let total = some.rsplit_once("total=")?.1;
    total.parse().ok().map(Duration::from_micros)
}
