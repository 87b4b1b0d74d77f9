//! The metrics of a process, and their text form.
//!
//! One shared registry with the prefix `kahn`. Labels never carry what a user named (tasks, runs,
//! namespaces): `/metrics` may be read by people who may not read those.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// The content type of [`Metrics::to_text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of a process. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// An empty registry; every name begins with `kahn_`.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix("kahn"))))
    }

    /// Adds any metric, such as a `Family`, and gives it back. `help` has no full stop.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.registry().register(name, help, metric.clone());
        metric
    }

    /// Adds a counter; its text form ends in `_total`, so `name` does not.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.register(name, help, Counter::default())
    }

    /// Adds a gauge.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    /// Adds a histogram with the given upper bounds; times are in seconds.
    pub fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: impl IntoIterator<Item = f64>,
    ) -> Histogram {
        self.register(name, help, Histogram::new(buckets))
    }

    /// All metrics in the OpenMetrics text format.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry()).expect("invariant: a String can always be written to");
        text
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_metrics_appear_in_the_text() {
        let metrics = Metrics::new();
        let repairs = metrics.counter("auditor_repairs", "Repairs by the auditor");
        let workers = metrics.clone().gauge("workers", "Attached workers");
        let commits = metrics.histogram("commit_seconds", "Time of a commit", [0.001, 0.01]);
        repairs.inc_by(3);
        workers.set(2);
        commits.observe(0.005);
        let text = metrics.to_text();
        for line in [
            "# HELP kahn_auditor_repairs Repairs by the auditor.",
            "kahn_auditor_repairs_total 3",
            "kahn_workers 2",
            "kahn_commit_seconds_bucket{le=\"0.01\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
    }
}
