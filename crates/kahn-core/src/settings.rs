//! The core's settings.

use std::collections::BTreeSet;
use std::time::Duration;

use kahn_model::{ActionKind, Labels, Name, Resources};

/// Which of several workers with room gets a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spreading {
    /// The emptiest one, so that tasks disturb each other least.
    #[default]
    Spread,
    /// The fullest one with room, so that other workers become idle and can be removed.
    Pack,
}

/// A pool of workers that are alike, whose number something outside decides.
///
/// Its members are the workers whose label `pool` is its name. What is not set here is taken from the
/// member that attached last, also when it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Its name.
    pub name: Name,
    /// Labels that each member has, in addition to those that members told.
    pub labels: Labels,
    /// The capacity of a member.
    pub capacity: Option<Resources>,
    /// The kinds of action that a member can execute.
    pub executors: Option<BTreeSet<ActionKind>>,
    /// The maximum number of members. What it cannot take is counted for other pools that can.
    pub workers_max: Option<u32>,
}

impl PoolSettings {
    /// Returns a pool of which nothing but the name is known.
    #[must_use]
    pub fn new(name: Name) -> Self {
        Self { name, labels: Labels::new(), capacity: None, executors: None, workers_max: None }
    }
}

/// The core's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of logs that runs are distributed over; fixed when a cluster is created.
    pub partitions: u16,
    /// A worker that is silent for this long gets no new leases.
    pub suspect_after: Duration,
    /// A worker that is silent for this long is lost, together with its leases.
    pub lease_ttl: Duration,
    /// How long a request waits for a suitable worker if no known worker shape fits it.
    pub infeasible_grace: Duration,
    /// Amount of work, as a duration, granted to a worker ahead of its room.
    pub prefetch_span: Duration,
    /// Maximum number of leases granted to a worker ahead of its room.
    pub prefetch_max: u32,
    /// Maximum number of leases granted by one scheduling pass, so that events do not wait long.
    pub grants_per_pass: usize,
    /// Which of several workers with room gets a task.
    pub spreading: Spreading,
    /// The pools of workers, which may have no member now.
    pub pools: Vec<PoolSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            partitions: 1,
            suspect_after: Duration::from_secs(5),
            lease_ttl: Duration::from_secs(15),
            infeasible_grace: Duration::from_secs(30),
            prefetch_span: Duration::from_millis(20),
            prefetch_max: 1024,
            grants_per_pass: 4096,
            spreading: Spreading::Spread,
            pools: Vec::new(),
        }
    }
}
