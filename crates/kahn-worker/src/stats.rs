//! The worker's metrics.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use kahn_executor::Report;
use kahn_model::ActionKind;
use kahn_runtime::metrics::{Metrics, StaticLabels};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// All metrics of one worker.
#[derive(Debug)]
pub(crate) struct Stats {
    attempts: Family<StaticLabels<2>, Counter>,
    kinds: BTreeMap<ActionKind, OfKind>,
    /// Attempts that are being carried out.
    pub running: Gauge,
    /// Streams to the coordinator that replaced another.
    pub reconnects: Counter,
    /// Whether there is a stream to the coordinator.
    pub connected: Gauge,
    /// Bytes of output that were sent to the coordinator.
    pub output: Counter,
    /// The share of its capacity that the worker accepts, from 0 to 1.
    pub accepts: Gauge<f64, AtomicU64>,
}

/// Metrics of the attempts of one kind of action.
#[derive(Debug)]
struct OfKind {
    succeeded: Counter,
    durations: Histogram,
}

impl Stats {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let help = "Attempts that ended, by the kind of their action and by outcome: succeeded, or \
                    the cause of the failure";
        let attempts: Family<StaticLabels<2>, Counter> = metrics.family("worker_attempts", help);
        let help = "Duration of attempts, by the kind of their action";
        let durations: Family<StaticLabels<1>, Histogram> =
            metrics.long_histograms("worker_attempt_duration_seconds", help);
        let of_kind = |kind: ActionKind| OfKind {
            succeeded: attempts.get_or_create_owned(&labels(kind, "succeeded")),
            durations: durations.get_or_create_owned(&[("action", kind.as_str())]),
        };
        let kinds = ActionKind::ALL.into_iter().map(|kind| (kind, of_kind(kind))).collect();
        let output = "Bytes of output sent to the coordinator, those sent again included";
        let accepts = "Share of its capacity that the worker accepts, from 0 to 1";
        let stats = Self {
            attempts,
            kinds,
            running: metrics.gauge("worker_attempts_running", "Attempts that are running"),
            reconnects: metrics
                .counter("worker_reconnects", "Streams to the coordinator that replaced another"),
            connected: metrics
                .gauge("worker_connected", "1 with a stream to the coordinator, 0 without"),
            output: metrics.counter("worker_output_bytes", output),
            accepts: metrics.register("worker_accepts", accepts, Gauge::default()),
        };
        stats.accepts.set(1.0);
        stats
    }

    /// Records the end of an attempt.
    pub(crate) fn ended(&self, kind: ActionKind, report: &Report) {
        let Some(of_kind) = self.kinds.get(&kind) else { return };
        of_kind.durations.observe(report.usage.elapsed.as_secs_f64());
        match &report.outcome {
            Ok(_) => of_kind.succeeded.inc(),
            Err(failure) => {
                let labels = labels(kind, failure.cause.kind.as_str());
                self.attempts.get_or_create(&labels).inc()
            }
        };
    }
}

fn labels(kind: ActionKind, outcome: &'static str) -> StaticLabels<2> {
    [("action", kind.as_str()), ("outcome", outcome)]
}

#[cfg(test)]
mod tests {
    use kahn_model::{Cause, Failure, Usage};
    use kahn_runtime::metrics::Format;

    use super::*;

    #[test]
    fn attempts_are_counted_by_action_and_outcome() {
        let metrics = Metrics::new();
        let stats = Stats::new(&metrics);
        let elapsed = std::time::Duration::from_millis(300);
        let report = |outcome| Report { outcome, usage: Usage { elapsed, ..Usage::default() } };
        stats.ended(ActionKind::Http, &report(Ok(Default::default())));
        let failure = Failure::new(Cause::exit_code(3), "");
        stats.ended(ActionKind::Process, &report(Err(failure)));
        let text = metrics.to_text(Format::Prometheus);
        for line in [
            "kahn_worker_attempts_total{action=\"http\",outcome=\"succeeded\"} 1",
            "kahn_worker_attempts_total{action=\"process\",outcome=\"succeeded\"} 0",
            "kahn_worker_attempts_total{action=\"process\",outcome=\"exit_code\"} 1",
            "kahn_worker_attempt_duration_seconds_bucket{le=\"0.25\",action=\"http\"} 0",
            "kahn_worker_attempt_duration_seconds_bucket{le=\"0.5\",action=\"http\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
    }
}
