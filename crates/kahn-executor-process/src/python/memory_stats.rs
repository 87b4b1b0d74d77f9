//! Caches the memory usage of an interpreter, so that it is not read after every call.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Pid;
use tokio::time::Instant;

/// The minimum interval between reads after calls.
const PERIOD: Duration = Duration::from_millis(200);
/// The delay before the first sample during a call, and the maximum interval between later ones.
const FIRST_SAMPLE: Duration = Duration::from_millis(25);
const SAMPLE_PERIOD_MAX: Duration = Duration::from_secs(1);

/// The memory of one interpreter.
#[derive(Debug)]
pub(super) struct MemoryStats {
    pid: Pid,
    looked_at: Option<Instant>,
    /// Resident memory after the first call, in bytes.
    first: Option<u64>,
    /// The last known resident memory, in bytes.
    pub(super) resident: u64,
    /// The number of OOM kills on the host when last read.
    n_kills: Option<u64>,
}

impl MemoryStats {
    pub(super) fn new(pid: Pid) -> Self {
        let n_kills = kahn_platform::n_out_of_memory_kills();
        Self { pid, looked_at: None, first: None, resident: 0, n_kills }
    }

    /// Reads memory usage after a call, unless it was read recently.
    pub(super) fn look(&mut self, now: Instant) {
        if self.looked_at.is_some_and(|at| now.duration_since(at) < PERIOD) {
            return;
        }
        self.looked_at = Some(now);
        self.n_kills = kahn_platform::n_out_of_memory_kills();
        if let Some(resident) = kahn_platform::memory_now(self.pid) {
            self.first.get_or_insert(resident);
            self.resident = resident;
        }
    }

    /// Returns the growth of resident memory since the first call, in bytes.
    pub(super) fn growth(&self) -> u64 {
        self.resident.saturating_sub(self.first.unwrap_or(self.resident))
    }

    /// Returns whether there was an OOM kill on the host since the last read.
    pub(super) fn had_oom_kill(&self) -> bool {
        matches!((self.n_kills, kahn_platform::n_out_of_memory_kills()),
            (Some(before), Some(now)) if before < now)
    }
}

/// Samples the memory of a process into `peak` while it is polled.
pub(super) async fn sample(pid: Pid, peak: &AtomicU64) {
    let mut period = FIRST_SAMPLE;
    loop {
        if let Some(resident) = kahn_platform::memory_now(pid) {
            peak.fetch_max(resident, Ordering::Relaxed);
        }
        tokio::time::sleep(period).await;
        period = (period * 2).min(SAMPLE_PERIOD_MAX);
    }
}
