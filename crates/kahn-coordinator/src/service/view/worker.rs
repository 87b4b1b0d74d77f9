//! A worker.

use kahn_core::{Worker, WorkerStatus};
use kahn_model::{Pressure, Timestamp};

/// A worker.
#[derive(Clone, Debug)]
pub(crate) struct WorkerView {
    pub worker: String,
    pub status: WorkerStatus,
    pub is_cordoned: bool,
    pub is_draining: bool,
    /// Formatted as `cpu=2 memory=4Gi`.
    pub capacity: String,
    pub used: String,
    pub labels: Vec<(String, String)>,
    pub executors: Vec<String>,
    /// Number of leases that it holds.
    pub leases: usize,
    /// Number of those that wait for room.
    pub leases_ahead: usize,
    pub heard_at: Timestamp,
    /// The share of its capacity that it accepts, in thousandths.
    pub accepts_permille: u32,
    /// Why it does not accept its full capacity.
    pub pressure: Option<Pressure>,
    pub throttled_since: Option<Timestamp>,
}

impl WorkerView {
    pub(in crate::service) fn of(worker: &Worker) -> Self {
        let labels = worker.labels.iter();
        Self {
            worker: worker.id.to_string(),
            status: worker.status,
            is_cordoned: worker.is_cordoned,
            is_draining: worker.is_draining,
            capacity: worker.capacity.to_string(),
            used: worker.used().to_string(),
            labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
            executors: worker.executors.iter().map(ToString::to_string).collect(),
            leases: worker.n_leases(),
            leases_ahead: worker.n_ahead(),
            heard_at: worker.heard_at,
            accepts_permille: worker.admission.share.permille(),
            pressure: worker.admission.pressure,
            throttled_since: worker.throttled_since,
        }
    }
}
