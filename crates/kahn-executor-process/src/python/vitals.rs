//! What is known of an interpreter's memory, without asking at every call.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Pid;
use tokio::time::Instant;

/// How often it is asked at most, between calls.
const PERIOD: Duration = Duration::from_millis(200);
/// During a call: when first, and how often later.
const FIRST_SAMPLE: Duration = Duration::from_millis(25);
const SAMPLE_PERIOD_MAX: Duration = Duration::from_secs(1);

/// The memory of one interpreter.
#[derive(Debug)]
pub(super) struct Vitals {
    pid: Pid,
    looked_at: Option<Instant>,
    /// Resident memory after the first call, in bytes.
    first: Option<u64>,
    /// Resident memory when last looked at, in bytes.
    pub(super) resident: u64,
    /// Processes that the system had killed for want of memory when last looked at.
    n_kills: Option<u64>,
}

impl Vitals {
    pub(super) fn new(pid: Pid) -> Self {
        let n_kills = kahn_platform::n_out_of_memory_kills();
        Self { pid, looked_at: None, first: None, resident: 0, n_kills }
    }

    /// Looks after a call, unless that was done a moment ago.
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

    /// By how many bytes it has grown since its first call.
    pub(super) fn growth(&self) -> u64 {
        self.resident.saturating_sub(self.first.unwrap_or(self.resident))
    }

    /// Whether the system killed any process for want of memory since the last look.
    pub(super) fn was_memory_short(&self) -> bool {
        matches!((self.n_kills, kahn_platform::n_out_of_memory_kills()),
            (Some(before), Some(now)) if before < now)
    }
}

/// Takes samples of a process into `peak`, for as long as it is polled.
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
