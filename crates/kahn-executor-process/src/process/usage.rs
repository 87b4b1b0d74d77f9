//! What an attempt used.
//!
//! The system reports peak memory of a process at its end, but counts in what its parent held
//! when the process was spawned: below the worker's own peak the number says nothing. For tasks
//! that stay below it, and live long enough, memory is also sampled.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kahn_model::Usage;
use kahn_spawn::Reaped;
use rustix::process::Pid;
use tokio::time::Instant;

/// A task shorter than this is not sampled; later samples come at twice the age of the last.
const FIRST_SAMPLE: Duration = Duration::from_millis(25);
const SAMPLE_PERIOD_MAX: Duration = Duration::from_secs(1);

/// The system counts memory on each processor and sums it up now and then, so that it reports more
/// of the worker's own to one than to another.
const OWN_PEAK_SLACK: u64 = 4 << 20;

/// The peak memory of the worker itself, in bytes, as far as it was looked at.
static OWN_PEAK: AtomicU64 = AtomicU64::new(0);

/// Looks at the worker's own peak memory, so that samples are taken while they are needed.
pub(super) fn update_own_peak() {
    let own = kahn_platform::memory_peak(rustix::process::getpid()).unwrap_or(0);
    OWN_PEAK.fetch_max(own, Ordering::Relaxed);
}

/// Samples the memory of a task while it lives.
#[derive(Debug)]
pub(super) struct Sampler {
    started_at: Instant,
    peak: AtomicU64,
}

impl Sampler {
    /// Of a task that was started then.
    pub(super) fn new(started_at: Instant) -> Self {
        Self { started_at, peak: AtomicU64::new(0) }
    }

    /// Takes samples for as long as it is polled, and calls `at_sample` with each; never returns.
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

    /// What the attempt used, all told.
    pub(super) fn usage(&self, elapsed: Duration, reaped: &Reaped) -> Usage {
        let (reported, sampled) = (reaped.memory_peak, self.peak.load(Ordering::Relaxed));
        Usage {
            elapsed,
            cpu: reaped.user + reaped.system,
            memory_peak: judge(reported, sampled, is_above_own_peak(reported)),
            read_bytes: reaped.read_bytes,
            written_bytes: reaped.written_bytes,
        }
    }
}

/// What was reported is the worker's own memory where it is no more than that: then without a
/// sample nothing is known.
fn judge(reported: u64, sampled: u64, is_exact: bool) -> u64 {
    match sampled {
        // A process that nobody waited for is in the samples only.
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
        assert_eq!(judge(50, 3, false), 3);
        assert_eq!(judge(50, 0, false), 0);
        assert_eq!(judge(50, 3, true), 50);
        assert_eq!(judge(50, 70, true), 70);
    }
}
