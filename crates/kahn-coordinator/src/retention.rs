//! Keeps finished runs for a while and then removes them, oldest first. If logs use too much space,
//! the output of a finished run is removed before the run itself.

use std::time::Duration;

use kahn_core::Event;
use kahn_model::{RunId, Timestamp};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::inbox::Handle;
use crate::logs::Logs;

/// How often to check.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Maximum number of runs removed at a time, so that other requests do not wait long.
const RUNS_AT_ONCE: usize = 100;

pub(crate) fn spawn(handle: Handle, logs: Logs, kept: usize) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Ok(expired) = handle.query(move |core| expired(core, kept)).await else { return };
            for run in expired {
                forget(&handle, &logs, run).await;
            }
            if logs.is_nearly_full() {
                let Ok(oldest) = handle.query(oldest_finished).await else { return };
                free_space(&logs, oldest).await;
            }
        }
    })
}

fn finished(core: &kahn_core::Core) -> Vec<(Timestamp, RunId)> {
    core.state().runs().filter_map(|run| run.finished_at.map(|at| (at, run.id()))).collect()
}

fn oldest_finished(core: &kahn_core::Core) -> Vec<RunId> {
    let mut finished = finished(core);
    finished.sort_unstable();
    finished.into_iter().map(|(_, run)| run).collect()
}

async fn free_space(logs: &Logs, oldest: Vec<RunId>) {
    for run in oldest {
        if !logs.is_nearly_full() {
            return;
        }
        match logs.remove_output(run).await {
            Ok(false) => {}
            Ok(true) => info!(%run, "output of a finished run removed to make room"),
            Err(error) => warn!(%run, %error, "output of a finished run not removed"),
        }
    }
    warn!("limits.total_log_bytes is nearly used up by runs that have not ended");
}

fn expired(core: &kahn_core::Core, kept: usize) -> Vec<RunId> {
    let mut finished = finished(core);
    let surplus = finished.len().saturating_sub(kept).min(RUNS_AT_ONCE);
    if surplus == 0 {
        return Vec::new();
    }
    finished.sort_unstable();
    finished.into_iter().take(surplus).map(|(_, run)| run).collect()
}

async fn forget(handle: &Handle, logs: &Logs, run: RunId) {
    debug!(%run, "removing a finished run");
    // Remove the output first: after a crash the run is still known, and the removal is repeated.
    if let Err(error) = logs.forget(run).await {
        warn!(%run, %error, "output of a removed run not removed");
    }
    // A run that cannot be removed now is tried again later.
    drop(handle.request(Event::RunExpired { run }).await);
}
