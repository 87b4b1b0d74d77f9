//! Resource usage of a container, sampled while it runs because the engine discards it at the end.
//!
//! The engine responds with its own next sample, of which it takes one per second. A container that
//! ends before is reported without memory and CPU time.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bollard::query_parameters::StatsOptions;
use kahn_model::Usage;
use tokio_stream::StreamExt as _;

use super::engine::{Engine, Id};

/// The delay before the first sample. A sample costs the engine a few milliseconds, so longer
/// containers are sampled less often.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LOOK_PERIOD_MAX: Duration = Duration::from_secs(5);

/// The maximum values so far.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    memory_peak: AtomicU64,
    cpu_nanos: AtomicU64,
}

impl Sampler {
    /// Takes samples while it is polled. Never returns.
    pub(super) async fn sample(&self, engine: &Engine, id: &Id) {
        let mut period = FIRST_LOOK;
        loop {
            tokio::time::sleep(period).await;
            self.look(engine, id).await;
            period = (period * 2).min(LOOK_PERIOD_MAX);
        }
    }

    async fn look(&self, engine: &Engine, id: &Id) {
        let options = StatsOptions { stream: false, one_shot: true };
        let mut stats = pin!(engine.docker().stats(&id.0, Some(options)));
        let Some(Ok(stats)) = stats.next().await else { return };
        let cpu = stats.cpu_stats.and_then(|cpu| cpu.cpu_usage?.total_usage);
        self.cpu_nanos.fetch_max(cpu.unwrap_or(0), Ordering::Relaxed);
        if let Some(memory) = stats.memory_stats {
            // Only some kernels report the maximum.
            let peak = memory.max_usage.unwrap_or(0).max(memory.usage.unwrap_or(0));
            self.memory_peak.fetch_max(peak, Ordering::Relaxed);
        }
    }

    /// Returns the usage of the attempt, as far as it was sampled.
    pub(super) fn usage(&self, elapsed: Duration) -> Usage {
        Usage {
            elapsed,
            cpu: Duration::from_nanos(self.cpu_nanos.load(Ordering::Relaxed)),
            memory_peak: self.memory_peak.load(Ordering::Relaxed),
            ..Usage::default()
        }
    }
}
