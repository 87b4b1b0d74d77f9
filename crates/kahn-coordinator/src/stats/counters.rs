//! Counters of what changed, by cause where there is one.

use kahn_core::{Change, Then, Verdict};
use kahn_model::CauseKind;
use kahn_runtime::metrics::{Metrics, StaticLabels};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// Counters of one coordinator.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    runs_submitted: Counter,
    leases_granted: Counter,
    attempts_succeeded: Counter,
    attempts_failed: ByCause,
    attempts_retried: ByCause,
    tasks_failed: ByCause,
    workers_lost: Counter,
    pub changes: Counter,
    pub log_bytes: Counter,
    pub log_batches: Counter,
    pub lost_tail: Counter,
    pub repairs: Counter,
}

impl Counters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let help = "Attempts that ended, by outcome: succeeded, or the cause of the failure";
        let attempts: Family<StaticLabels<1>, Counter> = metrics.family("attempts", help);
        let retried = "Attempts that failed and were followed by another, by cause";
        let failed = "Tasks that failed for good, with or without an attempt, by cause";
        Self {
            runs_submitted: metrics.counter("runs_submitted", "Runs submitted"),
            leases_granted: metrics.counter("leases_granted", "Leases granted"),
            attempts_succeeded: attempts.get_or_create_owned(&[("outcome", "succeeded")]),
            attempts_failed: ByCause::of(&attempts, "outcome"),
            attempts_retried: ByCause::of(&metrics.family("attempts_retried", retried), "cause"),
            tasks_failed: ByCause::of(&metrics.family("tasks_failed", failed), "cause"),
            workers_lost: metrics.counter("workers_lost", "Losses of a worker, one for each run"),
            changes: metrics.counter("changes", "Changes handed to the log"),
            log_bytes: metrics.counter("log_bytes", "Bytes handed to the log"),
            log_batches: metrics.counter("log_batches", "Batches handed to the log"),
            lost_tail: metrics
                .counter("store_lost_batches", "Batches that the store lost and was given again"),
            repairs: metrics.counter("auditor_repairs", "Repairs by the auditor; must stay 0"),
        }
    }

    pub(super) fn count(&self, change: &Change) {
        match change {
            Change::RunSubmitted(_) => self.runs_submitted.inc(),
            Change::LeaseGranted { .. } => self.leases_granted.inc(),
            Change::AttemptFinished { outcome: Ok(_), .. } => self.attempts_succeeded.inc(),
            Change::AttemptFinished { outcome: Err(failure), then, .. } => {
                let cause = failure.cause.kind;
                match then {
                    Then::End => self.tasks_failed.inc(cause),
                    Then::Retry { .. } => self.attempts_retried.inc(cause),
                    Then::Cancel => 0,
                };
                self.attempts_failed.inc(cause)
            }
            Change::TaskFailed { failure, .. }
            | Change::TaskEvaluated { verdict: Verdict::Fail(failure), .. } => {
                self.tasks_failed.inc(failure.cause.kind)
            }
            Change::WorkerLost { .. } => self.workers_lost.inc(),
            _ => 0,
        };
    }
}

/// A counter for each cause. All exist from the start, so that rates count the first failure.
#[derive(Clone, Debug)]
struct ByCause([Counter; CauseKind::ALL.len()]);

impl ByCause {
    fn of(family: &Family<StaticLabels<1>, Counter>, label: &'static str) -> Self {
        Self(CauseKind::ALL.map(|cause| family.get_or_create_owned(&[(label, cause.as_str())])))
    }

    fn inc(&self, cause: CauseKind) -> u64 {
        self.0[usize::from(cause.number())].inc()
    }
}
