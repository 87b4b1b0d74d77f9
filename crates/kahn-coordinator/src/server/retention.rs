//! Finished runs are kept for a while and then forgotten, the oldest first.

use std::time::Duration;

use kahn_core::Event;
use kahn_model::RunId;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::driver::Handle;
use crate::logs::Logs;

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Most runs forgotten at one time, so that nothing else is kept waiting.
const RUNS_AT_ONCE: usize = 100;

pub(super) fn spawn(handle: Handle, logs: Logs, kept: usize) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Ok(expired) = handle.query(move |core| expired(core, kept)).await else { return };
            for run in expired {
                forget(&handle, &logs, run).await;
            }
        }
    })
}

fn expired(core: &kahn_core::Core, kept: usize) -> Vec<RunId> {
    let mut finished: Vec<_> =
        core.state().runs().filter_map(|run| run.finished_at.map(|at| (at, run.id()))).collect();
    let surplus = finished.len().saturating_sub(kept).min(RUNS_AT_ONCE);
    if surplus == 0 {
        return Vec::new();
    }
    finished.sort_unstable();
    finished.into_iter().take(surplus).map(|(_, run)| run).collect()
}

async fn forget(handle: &Handle, logs: &Logs, run: RunId) {
    debug!(%run, "forgetting a finished run");
    if handle.request(Event::RunExpired { run }).await.is_ok()
        && let Err(error) = logs.remove_run(run).await
    {
        warn!(%run, %error, "output of a forgotten run not removed");
    }
}
