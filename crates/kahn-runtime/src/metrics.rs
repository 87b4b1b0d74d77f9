//! The metrics of a process, and their text forms.
//!
//! All names begin with `kahn_`, except those that every process has in Prometheus, such as
//! `process_cpu_seconds_total`.
//!
//! Labels never carry what a user named (tasks, runs, files), because `/metrics` may be read by
//! people who may not read those, and because there is no limit to such names. Two things that
//! operators have to tell apart are the exceptions: namespaces, since the wait in the queue is
//! shared out between them, and the labels of workers that tasks require, since an autoscaler has
//! to know which pool to enlarge. Each is limited to a fixed number of values, with the rest under
//! `other`, and each can be switched off in `coordinator.metrics`.

mod plain;
mod process;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// The name and the value of each label, for sets of labels whose values are known in advance.
pub type StaticLabels<const N: usize> = [(&'static str, &'static str); N];

/// The value of a label for everything beyond its maximum number of values.
pub const OTHER: &str = "other";

/// Upper bounds, in seconds, of histograms of tasks and runs: from a millisecond to a day.
pub const LONG_BUCKETS: [f64; 16] = [
    0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0,
    86400.0,
];

/// Upper bounds, in seconds, of histograms of internal operations: from 50 microseconds to 10
/// seconds.
pub const SHORT_BUCKETS: [f64; 14] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5,
    10.0,
];

/// A text form of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, which every scraper reads.
    Prometheus,
    /// OpenMetrics, for those who ask for it.
    OpenMetrics,
}

impl Format {
    /// Returns the format to send to a client with this `Accept` header.
    #[must_use]
    pub fn accepted(header: Option<&str>) -> Self {
        match header.is_some_and(|header| header.contains("application/openmetrics-text")) {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    /// Returns the content type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics of a process. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registries>>);

/// Prefixes belong to registries, so names without one need their own.
struct Registries {
    kahn: Registry,
    process: Registry,
}

impl Metrics {
    /// Creates an empty registry.
    #[must_use]
    pub fn new() -> Self {
        let (kahn, process) = (Registry::with_prefix("kahn"), Registry::default());
        Self(Arc::new(Mutex::new(Registries { kahn, process })))
    }

    /// Creates a registry with the metrics that every process has: its build, and its use of
    /// memory, processors and files.
    #[must_use]
    pub fn of_process() -> Self {
        let metrics = Self::new();
        metrics.registries().process.register_collector(Box::new(process::Process));
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let labels = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("commit", option_env!("KAHN_COMMIT").unwrap_or("unknown")),
            ("profile", profile),
        ];
        let help = "Always 1; the labels name the version, commit and profile of the build";
        let info: Family<StaticLabels<3>, Gauge> = metrics.family("build_info", help);
        info.get_or_create(&labels).set(1);
        metrics
    }

    /// Registers a metric, such as a `Family`, and returns it. `help` has no full stop.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.registries().kahn.register(name, help, metric.clone());
        metric
    }

    /// Registers a counter. Its text form ends in `_total`, so `name` does not.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.register(name, help, Counter::default())
    }

    /// Registers a gauge.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    /// Registers a histogram with the given upper bounds. Times are in seconds.
    pub fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: impl IntoIterator<Item = f64>,
    ) -> Histogram {
        self.register(name, help, Histogram::new(buckets))
    }

    /// Registers counters or gauges with labels.
    pub fn family<S, M>(&self, name: &str, help: &str) -> Family<S, M>
    where
        S: Clone + std::hash::Hash + Eq,
        M: Default,
        Family<S, M>: Metric,
    {
        self.register(name, help, Family::default())
    }

    /// Registers histograms with labels and [`LONG_BUCKETS`].
    pub fn long_histograms<S>(&self, name: &str, help: &str) -> Family<S, Histogram>
    where
        S: Clone + std::hash::Hash + Eq,
        Family<S, Histogram>: Metric,
    {
        let new = || Histogram::new(LONG_BUCKETS);
        self.register(name, help, Family::<S, Histogram>::new_with_constructor(new))
    }

    /// Returns all metrics as text.
    #[must_use]
    pub fn to_text(&self, format: Format) -> String {
        let text = self.to_open_metrics().expect("invariant: a String can always be written to");
        match format {
            Format::OpenMetrics => text,
            Format::Prometheus => plain::from_open_metrics(&text),
        }
    }

    fn to_open_metrics(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let registries = self.registries();
        encode_registry(&mut text, &registries.kahn)?;
        encode_registry(&mut text, &registries.process)?;
        encode_eof(&mut text)?;
        Ok(text)
    }

    fn registries(&self) -> MutexGuard<'_, Registries> {
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
    fn registered_metrics_appear_in_both_forms() {
        let metrics = Metrics::new();
        let repairs = metrics.counter("auditor_repairs", "Repairs by the auditor");
        let workers = metrics.clone().gauge("workers", "Attached workers");
        let commits = metrics.histogram("commit_seconds", "Time of a commit", [0.001, 0.01]);
        repairs.inc_by(3);
        workers.set(2);
        commits.observe(0.005);
        let has = |text: &str, line: &str| {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        };
        let open = metrics.to_text(Format::OpenMetrics);
        has(&open, "# HELP kahn_auditor_repairs Repairs by the auditor.");
        has(&open, "# EOF");
        let plain = metrics.to_text(Format::Prometheus);
        has(&plain, "# HELP kahn_auditor_repairs_total Repairs by the auditor.");
        has(&plain, "# TYPE kahn_auditor_repairs_total counter");
        assert!(!plain.contains("# EOF"));
        for text in [open, plain] {
            has(&text, "kahn_auditor_repairs_total 3");
            has(&text, "kahn_workers 2");
            has(&text, "kahn_commit_seconds_bucket{le=\"0.01\"} 1");
        }
    }

    #[test]
    fn open_metrics_are_sent_to_those_who_ask_for_them() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3";
        assert_eq!(Format::accepted(Some(prometheus)), Format::OpenMetrics);
        assert_eq!(Format::accepted(Some("*/*")), Format::Prometheus);
        assert_eq!(Format::accepted(None), Format::Prometheus);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_reports_its_build_and_what_it_uses() {
        let text = Metrics::of_process().to_text(Format::Prometheus);
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
            line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok())
        };
        assert!(text.contains("kahn_build_info{version=\""), "{text}");
        let memory = value("process_resident_memory_bytes").unwrap();
        assert!((1e6..1e11).contains(&memory), "{memory}");
        assert!(value("process_open_fds").unwrap() >= 3.0);
        assert!(value("process_open_fds").unwrap() <= value("process_max_fds").unwrap());
        assert!(value("process_threads").unwrap() >= 2.0);
        assert!(value("process_cpu_seconds_total").unwrap() >= 0.0);
        assert!(value("process_start_time_seconds").unwrap() > 1.6e9);
    }
}
