//! The coordinator's metrics, and its readiness according to the state of the store.

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_core::{Change, Core, Then};
use kahn_model::{Partition, Timestamp};
use kahn_runtime::health::Readiness;
use kahn_runtime::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// How often the gauges are updated; they are read a few times per minute.
const OBSERVE_EVERY: Duration = Duration::from_millis(500);

/// Counters and gauges of one coordinator.
#[derive(Debug)]
pub(crate) struct Stats {
    readiness: Readiness,
    troubles: BTreeMap<Partition, String>,
    observed_at: Timestamp,
    runs_submitted: Counter,
    leases_granted: Counter,
    attempts_succeeded: Counter,
    attempts_failed: Counter,
    attempts_retried: Counter,
    workers_lost: Counter,
    changes: Counter,
    log_bytes: Counter,
    log_batches: Counter,
    lost_tail: Counter,
    repairs: Counter,
    runs: Gauge,
    leases: Gauge,
    ready: Gauge,
    workers: Gauge,
    held_back: Gauge,
}

impl Stats {
    pub(crate) fn new(metrics: &Metrics, readiness: Readiness) -> Self {
        Self {
            readiness,
            troubles: BTreeMap::new(),
            observed_at: Timestamp::ZERO,
            runs_submitted: metrics.counter("runs_submitted", "Runs taken on"),
            leases_granted: metrics.counter("leases_granted", "Leases granted"),
            attempts_succeeded: metrics.counter("attempts_succeeded", "Attempts that succeeded"),
            attempts_failed: metrics.counter("attempts_failed", "Attempts that did not succeed"),
            attempts_retried: metrics.counter("attempts_retried", "Attempts followed by another"),
            workers_lost: metrics.counter("workers_lost", "Losses of a worker, one for each run"),
            changes: metrics.counter("changes", "Changes handed to the log"),
            log_bytes: metrics.counter("log_bytes", "Bytes handed to the log"),
            log_batches: metrics.counter("log_batches", "Batches handed to the log"),
            lost_tail: metrics.counter("store_lost_batches", "Batches that the store had lost"),
            repairs: metrics.counter("auditor_repairs", "Repairs by the auditor; must stay 0"),
            runs: metrics.gauge("runs", "Runs in memory, finished ones included"),
            leases: metrics.gauge("leases", "Leases in force"),
            ready: metrics.gauge("tasks_ready", "Tasks that wait for room"),
            workers: metrics.gauge("workers", "Workers that take leases"),
            held_back: metrics.gauge("outbox_waiting", "Commands that wait for the log"),
        }
    }

    pub(crate) fn count(&self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::RunSubmitted(_) => self.runs_submitted.inc(),
                Change::LeaseGranted { .. } => self.leases_granted.inc(),
                Change::AttemptFinished { outcome: Ok(_), .. } => self.attempts_succeeded.inc(),
                Change::AttemptFinished { then, .. } => {
                    if matches!(then, Then::Retry { .. }) {
                        self.attempts_retried.inc();
                    }
                    self.attempts_failed.inc()
                }
                Change::WorkerLost { .. } => self.workers_lost.inc(),
                _ => 0,
            };
        }
    }

    pub(crate) fn appended(&self, n_changes: usize, bytes: u64) {
        self.changes.inc_by(u64::try_from(n_changes).unwrap_or(u64::MAX));
        self.log_bytes.inc_by(bytes);
        self.log_batches.inc();
    }

    pub(crate) fn lost_tail(&self, missing: u64) {
        self.lost_tail.inc_by(missing);
    }

    pub(crate) fn repaired(&self, n: usize) {
        self.repairs.inc_by(u64::try_from(n).unwrap_or(u64::MAX));
    }

    pub(crate) fn store_troubled(&mut self, partition: Partition, cause: Option<&str>) {
        match cause {
            Some(cause) => self.troubles.insert(partition, cause.to_owned()),
            None => self.troubles.remove(&partition),
        };
        self.readiness.set(
            "store",
            match self.troubles.first_key_value() {
                Some((_, cause)) => Err(cause.clone()),
                None => Ok(()),
            },
        );
    }

    pub(crate) fn observe(&mut self, core: &Core, n_waiting: usize) {
        let state = core.state();
        if state.now().since(self.observed_at) < OBSERVE_EVERY {
            return;
        }
        self.observed_at = state.now();
        let n_workers = state.workers().iter().filter(|worker| worker.takes_leases()).count();
        for (gauge, value) in [
            (&self.runs, state.n_runs()),
            (&self.leases, state.n_leases()),
            (&self.ready, state.n_ready()),
            (&self.workers, n_workers),
            (&self.held_back, n_waiting),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}
