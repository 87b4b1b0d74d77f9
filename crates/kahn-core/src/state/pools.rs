//! What the workers of each pool are like, as far as it is known.

use std::collections::BTreeSet;

use kahn_model::{ActionKind, Labels, POOL_LABEL, Resources};

use super::classes::Class;
use super::worker::Worker;
use crate::settings::PoolSettings;

/// The work of one worker, the unit in which shares of workers are counted.
pub(crate) const WORKER: u64 = 1_000_000;

/// What a worker of a pool is like: what is configured, and what the latest one told. What is not known
/// is no obstacle.
#[derive(Clone, Debug)]
pub(crate) struct KnownPool {
    pub settings: PoolSettings,
    labels: Labels,
    capacity: Option<Resources>,
    executors: Option<BTreeSet<ActionKind>>,
    leases_max: u32,
}

impl KnownPool {
    pub(crate) fn new(settings: PoolSettings) -> Self {
        let mut labels = settings.labels.clone();
        labels.insert(POOL_LABEL.to_owned(), settings.name.as_str().to_owned());
        let (capacity, executors) = (settings.capacity.clone(), settings.executors.clone());
        Self { settings, labels, capacity, executors, leases_max: u32::MAX }
    }

    /// Returns whether a worker belongs to it.
    pub(crate) fn has(&self, worker: &Worker) -> bool {
        worker.labels.get(POOL_LABEL).is_some_and(|name| name == self.settings.name.as_str())
    }

    /// Learns from a member that has attached what is not configured.
    pub(crate) fn learn(&mut self, member: &Worker) {
        let Self { settings, .. } = self;
        self.labels = settings.labels.clone();
        self.labels.extend(member.labels.clone());
        self.capacity = settings.capacity.clone().or_else(|| Some(member.capacity.clone()));
        self.executors = settings.executors.clone().or_else(|| Some(member.executors.clone()));
        self.leases_max = member.leases_max;
    }

    /// Returns whether a member without leases could run the class.
    pub(crate) fn suits(&self, class: &Class) -> bool {
        self.executors.as_ref().is_none_or(|kinds| kinds.contains(&class.kind))
            && self.capacity.as_ref().is_none_or(|capacity| class.resources.fits(capacity))
            && class.selector.allows(&self.labels)
            && class.withheld_secret(&self.labels).is_none()
    }

    /// Returns the part of a member that one task of the class takes, in millionths: one divided by
    /// the number of such tasks that fit at the same time.
    pub(crate) fn share(&self, class: &Class) -> u64 {
        let fits = |capacity: &Resources| {
            class.resources.iter().map(|(resource, each)| capacity.get(&resource) / each).min()
        };
        let by_leases = u64::from(self.leases_max);
        let n_tasks = self.capacity.as_ref().and_then(fits).map_or(by_leases, |n| n.min(by_leases));
        WORKER.div_ceil(n_tasks.max(1))
    }

    /// Returns how many resources a member has that the class does not request, such as a graphics
    /// processor.
    pub(crate) fn n_unused(&self, class: &Class) -> usize {
        let Some(capacity) = &self.capacity else { return 0 };
        capacity.iter().filter(|(resource, _)| class.resources.get(resource) == 0).count()
    }
}
