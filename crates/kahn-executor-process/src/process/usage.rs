//! Resource usage of an attempt.
//!
//! The kernel reports a process's peak memory when it is reaped, but includes the memory that its
//! parent used when it was spawned. A value below the worker's own peak is therefore meaningless.
//! Tasks that stay below it are sampled if they run long enough.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kahn_model::Usage;
use kahn_spawn::Reaped;
use rustix::process::Pid;
use tokio::time::Instant;

/// The age of a task at its first sample. The interval then doubles with each sample.
const FIRST_SAMPLE: Duration = Duration::from_millis(25);
const SAMPLE_PERIOD_MAX: Duration = Duration::from_secs(1);

/// The tolerance for comparing with the worker's own peak. The kernel counts memory per CPU and
/// sums it up only occasionally, so the value that it reports varies.
const OWN_PEAK_SLACK: u64 = 4 << 20;

/// The highest known peak memory of the worker itself, in bytes.
static OWN_PEAK: AtomicU64 = AtomicU64::new(0);

/// Reads the worker's own peak memory, which determines whether samples are needed.
pub(super) fn update_own_peak() {
    let own = kahn_platform::memory_peak(rustix::process::getpid()).unwrap_or(0);
    OWN_PEAK.fetch_max(own, Ordering::Relaxed);
}

/// Samples the memory of a running task.
#[derive(Debug)]
pub(super) struct Sampler {
    started_at: Instant,
    peak: AtomicU64,
}

impl Sampler {
    /// Creates a sampler for a task that was started at `started_at`.
    pub(super) fn new(started_at: Instant) -> Self {
        Self { started_at, peak: AtomicU64::new(0) }
    }

    /// Takes samples while it is polled and calls `at_sample` after each. Never returns.
    pub(super) async fn sample(&self, leader: Pid, at_sample: impl Fn()) {
        let mut period = FIRST_SAMPLE;
        let mut next = self.started_at + period;
        loop {
            tokio::time::sleep_until(next).await;
            let is_needed = self.peak.load(Ordering::Relaxed) <= OWN_PEAK.load(Ordering::Relaxed);
            if is_needed && let Some(peak) = kahn_platform::tree_memory_peak(leader) {
                self.peak.fetch_max(peak, Ordering::Relaxed);
            }
            at_sample();
            period = (period * 2).min(SAMPLE_PERIOD_MAX);
            next = Instant::now() + period;
        }
    }

    /// Returns the total usage of the attempt.
    pub(super) fn usage(&self, elapsed: Duration, reaped: &Reaped) -> Usage {
        let (reported, sampled) = (reaped.memory_peak, self.peak.load(Ordering::Relaxed));
        Usage {
            elapsed,
            cpu: reaped.user + reaped.system,
            memory_peak: choose_peak(reported, sampled, is_above_own_peak(reported)),
            read_bytes: reaped.read_bytes,
            written_bytes: reaped.written_bytes,
        }
    }
}

/// Chooses between reported and sampled peak memory. A report that is not exact may be the worker's
/// own memory, so it is ignored.
fn choose_peak(reported: u64, sampled: u64, is_exact: bool) -> u64 {
    match sampled {
        // A process that was never waited for appears only in the samples.
        sampled if is_exact => reported.max(sampled),
        sampled => sampled,
    }
}

fn is_above_own_peak(memory: u64) -> bool {
    let is_above = || OWN_PEAK.load(Ordering::Relaxed) + OWN_PEAK_SLACK < memory;
    if !is_above() {
        return false;
    }
    update_own_peak();
    is_above()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_the_workers_own_peak_a_sample_counts() {
        assert_eq!(choose_peak(50, 3, false), 3);
        assert_eq!(choose_peak(50, 0, false), 0);
        assert_eq!(choose_peak(50, 3, true), 50);
        assert_eq!(choose_peak(50, 70, true), 70);
    }
}
