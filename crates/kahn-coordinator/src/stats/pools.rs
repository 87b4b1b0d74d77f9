//! Gauges of pools: the workers that they have and need.

use std::sync::Arc;

use kahn_core::PoolDemand;
use kahn_runtime::metrics::Metrics;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

type ByPool = Family<[(&'static str, Arc<str>); 1], Gauge>;

/// Gauges of the configured pools. They are absent from coordinators that do not lead, and while the
/// demand is not known, so that it is never taken for none.
#[derive(Clone, Debug)]
pub(super) struct PoolGauges {
    wanted: ByPool,
    workers: ByPool,
    busy: ByPool,
    waiting: ByPool,
}

impl PoolGauges {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let wanted = "Workers that a pool needs for the tasks that it runs and for those that wait";
        let workers = "Workers of a pool that are present and do not leave";
        let busy = "Workers of a pool that hold leases or are cordoned";
        let waiting = "Tasks that are ready and wait for room in a pool";
        Self {
            wanted: metrics.family("pool_workers_wanted", wanted),
            workers: metrics.family("pool_workers", workers),
            busy: metrics.family("pool_workers_busy", busy),
            waiting: metrics.family("pool_tasks_waiting", waiting),
        }
    }

    pub(super) fn clear(&self) {
        for family in [&self.wanted, &self.workers, &self.busy, &self.waiting] {
            family.clear();
        }
    }

    pub(super) fn set(&self, pools: Option<Vec<PoolDemand>>) {
        let Some(pools) = pools else { return self.clear() };
        for pool in pools {
            let label = [("pool", Arc::from(pool.name.as_str()))];
            let set = |family: &ByPool, value: u64| {
                family.get_or_create(&label).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            set(&self.wanted, pool.n_wanted);
            set(&self.workers, pool.n_workers.into());
            set(&self.busy, pool.n_busy.into());
            set(&self.waiting, pool.n_waiting);
        }
    }
}
