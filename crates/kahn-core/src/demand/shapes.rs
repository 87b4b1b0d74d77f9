//! What the workers of a pool are like, as far as it is known.

use std::collections::BTreeSet;

use kahn_model::{ActionKind, Labels, POOL_LABEL, Resources};

use crate::settings::PoolSettings;
use crate::state::{Class, State, Worker};

/// The work of one worker, the unit in which shares of workers are counted.
pub(super) const WORKER: u64 = 1_000_000;

/// What a worker of a pool is like. What is not known is no obstacle.
#[derive(Debug)]
pub(super) struct PoolShape<'a> {
    pub settings: &'a PoolSettings,
    labels: Labels,
    capacity: Option<&'a Resources>,
    executors: Option<&'a BTreeSet<ActionKind>>,
    leases_max: u32,
}

impl<'a> PoolShape<'a> {
    /// Combines what is configured with what the latest member told.
    pub(super) fn of(settings: &'a PoolSettings, state: &'a State) -> Self {
        let members = state.workers().iter().filter(|worker| is_member(worker, settings));
        let latest = members.max_by_key(|worker| worker.heard_at);
        let mut labels = settings.labels.clone();
        labels.insert(POOL_LABEL.to_owned(), settings.name.as_str().to_owned());
        labels.extend(latest.into_iter().flat_map(|worker| worker.labels.clone()));
        Self {
            settings,
            labels,
            capacity: settings.capacity.as_ref().or(latest.map(|worker| &worker.capacity)),
            executors: settings.executors.as_ref().or(latest.map(|worker| &worker.executors)),
            leases_max: latest.map_or(u32::MAX, |worker| worker.leases_max),
        }
    }

    /// Returns whether a member without leases could run the class.
    pub(super) fn suits(&self, class: &Class) -> bool {
        self.executors.is_none_or(|kinds| kinds.contains(&class.kind))
            && self.capacity.is_none_or(|capacity| class.resources.fits(capacity))
            && class.selector.allows(&self.labels)
            && class.withheld_secret(&self.labels).is_none()
    }

    /// Returns the part of a member that one task of the class takes, in millionths: one divided by
    /// the number of such tasks that fit at the same time.
    pub(super) fn share(&self, class: &Class) -> u64 {
        let fits = |capacity: &Resources| {
            class.resources.iter().map(|(resource, each)| capacity.get(&resource) / each).min()
        };
        let by_leases = u64::from(self.leases_max);
        let n_tasks = self.capacity.and_then(fits).map_or(by_leases, |n| n.min(by_leases));
        WORKER.div_ceil(n_tasks.max(1))
    }

    /// Returns how many resources a member has that the class does not request, such as a graphics
    /// processor.
    pub(super) fn n_unused(&self, class: &Class) -> usize {
        let Some(capacity) = self.capacity else { return 0 };
        capacity.iter().filter(|(resource, _)| class.resources.get(resource) == 0).count()
    }
}

/// Returns whether a worker belongs to a pool.
pub(super) fn is_member(worker: &Worker, pool: &PoolSettings) -> bool {
    worker.labels.get(POOL_LABEL).is_some_and(|name| name == pool.name.as_str())
}
