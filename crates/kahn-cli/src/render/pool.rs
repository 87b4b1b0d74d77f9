//! Pools of workers, as JSON and as text.

use kahn_client::Pool;
use serde_json::{Value, json};

use super::table::table;
use super::text;

/// Formats a pool as JSON; the fields are stable.
pub(crate) fn pool_json(pool: &Pool) -> Value {
    json!({
        "pool": pool.name,
        "workers": pool.workers,
        "workers_busy": pool.workers_busy,
        "workers_wanted": pool.workers_wanted,
        "workers_max": pool.workers_max,
        "leases": pool.leases,
        "tasks_waiting": pool.tasks_waiting,
    })
}

/// Formats pools as a table.
pub(crate) fn pools(pools: &[Pool]) -> String {
    let rows = pools.iter().map(|pool| {
        [
            text::safe(&pool.name),
            pool.workers.to_string(),
            pool.workers_busy.to_string(),
            pool.workers_wanted.to_string(),
            pool.workers_max.map_or_else(String::new, |max| max.to_string()),
            pool.leases.to_string(),
            pool.tasks_waiting.to_string(),
        ]
    });
    let head = ["POOL", "WORKERS", "BUSY", "WANTED", "MAX", "LEASES", "WAITING"];
    table(head, rows.collect())
}
