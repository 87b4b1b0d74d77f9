//! What an operator may choose about the core.

use std::time::Duration;

/// Which of several workers with room gets a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spreading {
    /// The emptiest: tasks disturb each other least.
    #[default]
    Spread,
    /// The fullest that still has room: workers become free to leave.
    Pack,
}

/// What an operator may choose about the core.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Over how many logs the runs are spread; fixed when a cluster is created.
    pub partitions: u16,
    /// A worker not heard from for this long gets no new leases.
    pub suspect_after: Duration,
    /// A worker not heard from for this long is lost, and its leases with it.
    pub lease_ttl: Duration,
    /// How long a request that no known worker shape fits is kept waiting for one that does.
    pub infeasible_grace: Duration,
    /// How much work, in time, a worker may be given ahead of its free capacity.
    pub prefetch_span: Duration,
    /// Most leases that a worker may be given ahead of its free capacity.
    pub prefetch_max: u32,
    /// Most leases granted by one scheduling pass, so that events are not kept waiting.
    pub grants_per_pass: usize,
    /// Which of several workers with room gets a task.
    pub spreading: Spreading,
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
        }
    }
}
