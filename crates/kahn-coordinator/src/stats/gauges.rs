//! Gauges of the state: runs, leases, workers, and tasks that are ready.

use std::collections::BTreeMap;

use kahn_core::{Core, State, Worker, WorkerStatus};
use kahn_model::{RunState, TaskState};
use kahn_runtime::metrics::{Metrics, StaticLabels};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::demand::DemandGauges;
use super::pools::PoolGauges;

/// The states of a worker, from the most to the least available.
const WORKER_STATES: [&str; 5] = ["attached", "cordoned", "draining", "suspect", "lost"];

/// Gauges of one coordinator.
#[derive(Clone, Debug)]
pub(super) struct Gauges {
    runs: BTreeMap<RunState, Gauge>,
    archived: Gauge,
    archived_bytes: Gauge,
    workers: BTreeMap<&'static str, Gauge>,
    leases_ahead: Gauge,
    leases_placed: Gauge,
    leases_started: Gauge,
    ready: Gauge,
    held_back: Gauge,
    demand: DemandGauges,
    pools: PoolGauges,
}

impl Gauges {
    pub(super) fn new(metrics: &Metrics, are_labels_shown: bool) -> Self {
        let help = "Runs in memory, finished ones included, by state";
        let runs: Family<StaticLabels<1>, Gauge> = metrics.family("runs", help);
        let of_run = |state: RunState| runs.get_or_create_owned(&[("state", state.as_str())]);
        let help = "Workers that ever attached to this coordinator, by state";
        let workers: Family<StaticLabels<1>, Gauge> = metrics.family("workers", help);
        let of_worker = |state| workers.get_or_create_owned(&[("state", state)]);
        let help = "Leases in force: ahead of the room of their worker, placed, or started";
        let leases: Family<StaticLabels<1>, Gauge> = metrics.family("leases", help);
        let of_phase = |phase| leases.get_or_create_owned(&[("phase", phase)]);
        let archived = "Archived runs, of which only a summary is in memory";
        let archived_bytes = "Bytes of archived runs in the blob store, without output";
        let ready = "Tasks that are ready and not leased, those held back by a limit included";
        Self {
            runs: RunState::ALL.into_iter().map(|state| (state, of_run(state))).collect(),
            archived: metrics.gauge("runs_archived", archived),
            archived_bytes: metrics.gauge("archived_bytes", archived_bytes),
            workers: WORKER_STATES.into_iter().map(|state| (state, of_worker(state))).collect(),
            leases_ahead: of_phase("ahead"),
            leases_placed: of_phase("placed"),
            leases_started: of_phase("started"),
            ready: metrics.gauge("tasks_ready", ready),
            held_back: metrics.gauge("outbox_waiting", "Commands and answers waiting for the log"),
            demand: DemandGauges::new(metrics, are_labels_shown),
            pools: PoolGauges::new(metrics),
        }
    }

    /// Sets all gauges to zero.
    pub(super) fn clear(&self) {
        let Self { runs, workers, leases_ahead, leases_placed, leases_started, .. } = self;
        let Self { ready, held_back, demand, archived, archived_bytes, .. } = self;
        let leases = [leases_ahead, leases_placed, leases_started];
        let single = leases.into_iter().chain([ready, held_back, archived, archived_bytes]);
        for gauge in single.chain(runs.values()).chain(workers.values()) {
            gauge.set(0);
        }
        demand.clear();
        self.pools.clear();
    }

    pub(super) fn observe(&mut self, core: &Core, n_waiting: usize) {
        let state = core.state();
        let n_running = self.observe_runs(state);
        self.observe_workers(state);
        let n_ahead: usize = state.workers().iter().map(Worker::n_ahead).sum();
        let n_placed = state.n_leases().saturating_sub(n_ahead).saturating_sub(n_running);
        set(&self.leases_ahead, n_ahead);
        set(&self.leases_placed, n_placed);
        set(&self.leases_started, n_running);
        set(&self.ready, state.n_ready());
        set(&self.archived, state.n_archived());
        self.archived_bytes.set(i64::try_from(state.archived_bytes()).unwrap_or(i64::MAX));
        set(&self.held_back, n_waiting);
        self.demand.set(&core.demand());
        self.pools.set(core.pool_demand());
    }

    /// Updates the runs by state, and returns the number of attempts that have started.
    fn observe_runs(&self, state: &State) -> usize {
        let mut by_state: BTreeMap<RunState, usize> = BTreeMap::new();
        let mut n_running = 0;
        for run in state.runs() {
            *by_state.entry(run.state).or_default() += 1;
            n_running += u64::from(run.count(TaskState::Running));
        }
        for (state, gauge) in &self.runs {
            set(gauge, by_state.get(state).copied().unwrap_or(0));
        }
        usize::try_from(n_running).unwrap_or(usize::MAX)
    }

    fn observe_workers(&self, state: &State) {
        let mut by_state: BTreeMap<&str, usize> = BTreeMap::new();
        for worker in state.workers() {
            *by_state.entry(state_of(worker)).or_default() += 1;
        }
        for (state, gauge) in &self.workers {
            set(gauge, by_state.get(state).copied().unwrap_or(0));
        }
    }
}

/// Returns one of [`WORKER_STATES`].
fn state_of(worker: &Worker) -> &'static str {
    match worker.status {
        WorkerStatus::Attached if worker.is_draining => "draining",
        WorkerStatus::Attached if worker.is_cordoned => "cordoned",
        status => status.as_str(),
    }
}

fn set(gauge: &Gauge, value: usize) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}
