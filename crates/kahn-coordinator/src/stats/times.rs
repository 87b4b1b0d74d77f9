//! Histograms of waits and durations.

use std::collections::BTreeMap;
use std::sync::Arc;

use kahn_core::{NamespaceIx, State, Timing};
use kahn_model::{ActionKind, RunState};
use kahn_runtime::metrics::{LONG_BUCKETS, Metrics, OTHER, SHORT_BUCKETS, StaticLabels};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

/// Maximum number of namespaces with a histogram of their own.
pub(super) const NAMESPACES_MAX: usize = 100;

/// Histograms of one coordinator.
#[derive(Clone, Debug)]
pub(super) struct Times {
    queue_wait: ByNamespace,
    start_wait: Histogram,
    attempts: BTreeMap<ActionKind, Histogram>,
    runs: BTreeMap<RunState, Histogram>,
    pub append: Histogram,
    pub round: Histogram,
}

impl Times {
    pub(super) fn new(metrics: &Metrics, are_namespaces_shown: bool) -> Self {
        let help = "Time from a task being ready to its lease, by namespace";
        let queue_wait = metrics.long_histograms("queue_wait_seconds", help);
        let start_help = "Time from a task being ready to the start of its attempt";
        let help = "Duration of attempts that had started, by the kind of their action";
        let attempts: Family<StaticLabels<1>, _> =
            metrics.long_histograms("attempt_duration_seconds", help);
        let help = "Time from the submission or the last retry of a run to its end, by its state";
        let runs: Family<StaticLabels<1>, _> =
            metrics.long_histograms("run_duration_seconds", help);
        let of_kind = |kind: ActionKind| attempts.get_or_create_owned(&[("action", kind.as_str())]);
        let of_state = |state: RunState| runs.get_or_create_owned(&[("state", state.as_str())]);
        let append_help = "Time from handing a batch to the log until it is known to be durable";
        let round_help = "Duration of a round of the driver: inputs, placement and hand-over";
        Self {
            queue_wait: ByNamespace::new(queue_wait, are_namespaces_shown),
            start_wait: metrics.histogram("start_wait_seconds", start_help, LONG_BUCKETS),
            attempts: ActionKind::ALL.into_iter().map(|kind| (kind, of_kind(kind))).collect(),
            runs: RunState::ALL
                .into_iter()
                .filter(|state| state.is_terminal())
                .map(|state| (state, of_state(state)))
                .collect(),
            append: metrics.histogram("store_append_seconds", append_help, SHORT_BUCKETS),
            round: metrics.histogram("driver_round_seconds", round_help, SHORT_BUCKETS),
        }
    }

    /// Removes the histograms of namespaces, so that a next leadership does not exceed their number.
    pub(super) fn clear(&self) {
        self.queue_wait.clear();
    }

    pub(super) fn observe(&mut self, timing: &Timing, state: &State) {
        let (histogram, span) = match *timing {
            Timing::Leased { namespace, wait } => {
                (Some(self.queue_wait.histogram(namespace, state)), wait)
            }
            Timing::Started { wait } => (Some(self.start_wait.clone()), wait),
            Timing::Ran { kind, elapsed } => (self.attempts.get(&kind).cloned(), elapsed),
            Timing::Ended { state, elapsed } => (self.runs.get(&state).cloned(), elapsed),
        };
        if let Some(histogram) = histogram {
            histogram.observe(span.as_secs_f64());
        }
    }
}

type NamespaceLabel = [(&'static str, Arc<str>); 1];

/// A histogram for each of the namespaces that are seen first, and one for all others.
#[derive(Clone, Debug)]
struct ByNamespace {
    family: Family<NamespaceLabel, Histogram>,
    shown: BTreeMap<NamespaceIx, Histogram>,
    n_shown_max: usize,
}

impl ByNamespace {
    fn new(family: Family<NamespaceLabel, Histogram>, are_shown: bool) -> Self {
        let n_shown_max = if are_shown { NAMESPACES_MAX } else { 0 };
        let histograms = Self { family, shown: BTreeMap::new(), n_shown_max };
        histograms.others();
        histograms
    }

    fn others(&self) -> Histogram {
        self.family.get_or_create_owned(&[("namespace", OTHER.into())])
    }

    fn clear(&self) {
        self.family.clear();
        self.others();
    }

    fn histogram(&mut self, namespace: NamespaceIx, state: &State) -> Histogram {
        if let Some(histogram) = self.shown.get(&namespace) {
            return histogram.clone();
        }
        if self.shown.len() >= self.n_shown_max {
            return self.others();
        }
        let name = state.namespace(namespace).to_string().into();
        let histogram = self.family.get_or_create_owned(&[("namespace", name)]);
        self.shown.insert(namespace, histogram.clone());
        histogram
    }
}
