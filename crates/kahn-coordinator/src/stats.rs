//! The coordinator's metrics, and its readiness according to the state of the store.
//!
//! Counters and times are recorded for each change; that costs an atomic addition or an uncontended
//! lock, well below the cost of the change itself. Gauges are computed from the state from time to
//! time.

mod counters;
mod demand;
mod gauges;
mod pools;
mod role;
mod times;

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_core::{Change, Core};
use kahn_model::{Partition, Timestamp};
use kahn_runtime::health::Readiness;
use kahn_runtime::metrics::Metrics;

use crate::config::MetricsConfig;
use counters::Counters;
use gauges::Gauges;
use role::RoleGauges;
use times::Times;

pub(crate) use role::RoleName;

/// How often the gauges are updated; they are read a few times per minute.
const OBSERVE_EVERY: Duration = Duration::from_millis(500);

/// All metrics of one coordinator. Each leadership starts with a clone of new ones.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    readiness: Readiness,
    troubles: BTreeMap<Partition, String>,
    observed_at: Timestamp,
    /// Whether the state may have changed since the gauges were updated.
    is_behind: bool,
    counters: Counters,
    times: Times,
    gauges: Gauges,
    role: RoleGauges,
}

impl Stats {
    pub(crate) fn new(metrics: &Metrics, readiness: Readiness, config: &MetricsConfig) -> Self {
        Self {
            readiness,
            troubles: BTreeMap::new(),
            observed_at: Timestamp::ZERO,
            is_behind: false,
            counters: Counters::new(metrics),
            times: Times::new(metrics, config.namespaces),
            gauges: Gauges::new(metrics, config.labels),
            role: RoleGauges::new(metrics),
        }
    }

    /// Records the role of the coordinator.
    pub(crate) fn role(&self, role: RoleName) {
        self.role.set(role);
    }

    /// Forgets what the gauges show, because a leadership has ended.
    pub(crate) fn clear(&self) {
        self.readiness.set("store", Ok(()));
        self.times.clear();
        self.gauges.clear();
    }

    /// Records the changes and the timings of a step of the core.
    pub(crate) fn count(&mut self, changes: &[Change], core: &Core) {
        for change in changes {
            self.counters.count(change);
        }
        for timing in core.timings() {
            self.times.observe(timing, core.state());
        }
    }

    pub(crate) fn appended(&self, n_changes: usize, bytes: u64) {
        self.counters.changes.inc_by(u64::try_from(n_changes).unwrap_or(u64::MAX));
        self.counters.log_bytes.inc_by(bytes);
        self.counters.log_batches.inc();
    }

    /// Records that a batch became durable this long after it was handed to the log.
    pub(crate) fn committed(&self, elapsed: Duration) {
        self.times.append.observe(elapsed.as_secs_f64());
    }

    /// Records the duration of a round of the driver.
    pub(crate) fn round(&self, elapsed: Duration) {
        self.times.round.observe(elapsed.as_secs_f64());
    }

    pub(crate) fn lost_tail(&self, missing: u64) {
        self.counters.lost_tail.inc_by(missing);
    }

    pub(crate) fn repaired(&self, n: usize) {
        self.counters.repairs.inc_by(u64::try_from(n).unwrap_or(u64::MAX));
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

    /// Updates the gauges, unless that was done only recently.
    pub(crate) fn observe(&mut self, core: &Core, n_waiting: usize) {
        let now = core.state().now();
        self.is_behind = now.since(self.observed_at) < OBSERVE_EVERY;
        if !self.is_behind {
            self.observed_at = now;
            self.gauges.observe(core, n_waiting);
        }
    }

    /// Returns when to call [`Stats::observe`] next even if nothing happens until then. Otherwise
    /// the gauges would not show the end of a burst before the next input.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.is_behind.then(|| self.observed_at + OBSERVE_EVERY)
    }
}

#[cfg(test)]
mod tests;
