//! Tells Kubernetes which workers to remove first, by the annotation
//! [`controller.kubernetes.io/pod-deletion-cost`] of their pods.
//!
//! [`controller.kubernetes.io/pod-deletion-cost`]:
//!     https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#pod-deletion-cost

mod pods;

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_client::{Error, Pool, Worker};
use kahn_model::POOL_LABEL;
use tokio::time::sleep;
use tracing::warn;

use crate::demand::{Coordinators, Demand, Line};

pub(crate) use pods::{NotInCluster, Pods};

/// How often the costs are compared. Kubernetes decides every 15 seconds whether to remove a worker.
const COMPARE_EVERY: Duration = Duration::from_secs(3);
/// Maximum number of pods that are changed at a time, so that the API server has other things to do.
const CHANGES_MAX: usize = 50;

/// Returns the cost of each worker of a pool that has more workers than it needs: 0 if it is idle, and
/// more with the number of its leases. In powers of two, since each change costs a request.
///
/// In other pools all workers are busy, so that it does not matter which is removed.
fn costs(pools: &[Pool], workers: &[Worker]) -> BTreeMap<String, u32> {
    let has_too_many = |name: &String| {
        let mut pools = pools.iter();
        pools.any(|pool| pool.name == *name && pool.workers_wanted < pool.workers)
    };
    let cost = |leases: u32| leases.checked_ilog2().map_or(0, |log| log + 1);
    workers
        .iter()
        .filter(|worker| worker.status != "lost")
        .filter(|worker| worker.labels.get(POOL_LABEL).is_some_and(has_too_many))
        .map(|worker| (worker.name.clone(), cost(worker.leases)))
        .collect()
}

/// Returns which of the costs differ from those that are known to be set, the lowest first, so that
/// idle workers are known before one is removed.
fn changes(wanted: BTreeMap<String, u32>, known: &BTreeMap<String, u32>) -> Vec<(String, u32)> {
    let mut changes: Vec<(String, u32)> =
        wanted.into_iter().filter(|(name, cost)| known.get(name) != Some(cost)).collect();
    changes.sort_by_key(|(_, cost)| *cost);
    changes.truncate(CHANGES_MAX);
    changes
}

/// Keeps the costs of pods up to date.
pub(crate) async fn keep(coordinators: Coordinators, demand: Demand, pods: Pods) {
    let mut line = Line::new(coordinators);
    let mut known = BTreeMap::new();
    let mut is_told = false;
    loop {
        sleep(COMPARE_EVERY).await;
        let pools = demand.pools();
        if pools.iter().all(|pool| pool.workers <= pool.workers_wanted) {
            continue;
        }
        // Failing to reach the coordinators is logged where the demand is asked for.
        let Ok(workers) = workers(&mut line).await else { continue };
        known.retain(|name, _| workers.iter().any(|w| w.name == *name && w.status != "lost"));
        for (worker, cost) in changes(costs(&pools, &workers), &known) {
            match pods.set_cost(&worker, cost).await {
                Ok(()) => {
                    known.insert(worker, cost);
                    is_told = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        warn!(%error, worker, "cannot annotate the pod of a worker");
                    }
                    break;
                }
            }
        }
    }
}

async fn workers(line: &mut Line) -> Result<Vec<Worker>, Error> {
    line.client().await?.list_workers().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, workers: u32, wanted: u32) -> Pool {
        Pool { workers, ..crate::demand::tests::pool(name, wanted) }
    }

    fn worker(name: &str, pool: &str, leases: u32) -> Worker {
        Worker {
            name: name.into(),
            status: "attached".into(),
            is_cordoned: false,
            is_draining: false,
            capacity: String::new(),
            used: String::new(),
            labels: [(POOL_LABEL.to_owned(), pool.to_owned())].into(),
            executors: Vec::new(),
            leases,
            leases_ahead: 0,
            heard_at: None,
            accepts_permille: 1000,
            pressure: None,
            throttled_since: None,
        }
    }

    #[test]
    fn idle_workers_cost_nothing_and_busy_ones_more_with_their_leases() {
        let pools = [pool("a", 3, 1), pool("full", 1, 1)];
        let mut workers = vec![worker("w1", "a", 0), worker("w2", "a", 1), worker("w3", "a", 9)];
        workers.push(worker("other", "full", 1));
        workers.push(Worker { status: "lost".into(), ..worker("gone", "a", 0) });
        let costs = costs(&pools, &workers);
        let expected = [("w1", 0), ("w2", 1), ("w3", 4)];
        assert_eq!(costs, expected.map(|(name, cost)| (name.to_owned(), cost)).into());
    }

    #[test]
    fn only_changes_are_told_and_idle_workers_first() {
        let cost = |pairs: &[(&str, u32)]| -> BTreeMap<String, u32> {
            pairs.iter().map(|(name, cost)| ((*name).to_owned(), *cost)).collect()
        };
        let known = cost(&[("w1", 2), ("w2", 0)]);
        let changed = changes(cost(&[("w1", 1), ("w2", 0), ("w3", 0)]), &known);
        assert_eq!(changed, [("w3".to_owned(), 0), ("w1".to_owned(), 1)]);
        let many: BTreeMap<String, u32> = (0..200).map(|n| (format!("w{n}"), 1)).collect();
        assert_eq!(changes(many, &known).len(), CHANGES_MAX);
    }
}
