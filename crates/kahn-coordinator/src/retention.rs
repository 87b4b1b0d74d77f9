//! Keeps finished runs and their output for a while and then removes them, oldest first.
//!
//! Output is removed before its run, so that a removal that was interrupted is repeated. What is
//! stored of an archived run is removed after the run, so that no run is left of which nothing can be
//! read. Output and histories of runs that do not exist are removed after a grace period: a store
//! that failed, or an upload that was under way when the run was removed, may leave some behind.

mod plan;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kahn_core::{Core, Event};
use kahn_model::{RunId, Timestamp};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use self::plan::{Finished, Plan};
use crate::config::RetentionConfig;
use crate::histories::Histories;
use crate::inbox::{Handle, RequestError};
use crate::logs::Logs;

/// Maximum number of runs removed at a time, so that other requests do not wait long. Also the
/// maximum number of runs whose output is measured at a time.
const RUNS_AT_ONCE: usize = 100;
/// How often to look for output of runs that do not exist.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// Starts to remove what is not kept. `runs_max` is the number of finished runs to keep.
pub(crate) fn spawn(
    handle: Handle,
    logs: Logs,
    histories: Histories,
    config: RetentionConfig,
    runs_max: usize,
) -> JoinHandle<()> {
    let (sizes, cleared) = Default::default();
    let retention = Retention { handle, logs, histories, config, runs_max, sizes, cleared };
    tokio::spawn(async move {
        // It ends with the leadership.
        drop(retention.run().await);
    })
}

struct Retention {
    handle: Handle,
    logs: Logs,
    histories: Histories,
    config: RetentionConfig,
    runs_max: usize,
    /// The size of the output of finished runs, which does not change any more.
    sizes: BTreeMap<RunId, u64>,
    /// Runs whose output was removed.
    cleared: BTreeSet<RunId>,
}

impl Retention {
    async fn run(mut self) -> Result<(), RequestError> {
        let mut swept_at = Instant::now();
        loop {
            tokio::time::sleep(self.config.check_every).await;
            self.look().await?;
            if self.logs.is_nearly_full() {
                let oldest = self.handle.query(oldest_finished).await?;
                free_space(&self.logs, oldest).await;
            }
            if swept_at.elapsed() >= SWEEP_EVERY {
                swept_at = Instant::now();
                self.sweep().await?;
            }
        }
    }

    async fn look(&mut self) -> Result<(), RequestError> {
        let (now, mut finished) = self.handle.query(finished).await?;
        if self.config.needs_sizes() {
            self.measure(&finished).await;
        }
        for run in &mut finished {
            run.log_bytes = self.sizes.get(&run.run).copied();
        }
        let Plan { runs, output } = plan::plan(finished, now, &self.config, self.runs_max);
        // Runs expire although the blob store fails, without a timeout for each of them; or although
        // it may belong to another cluster, of which nothing must be removed.
        let mut is_failing = self.logs.check_claim().is_err();
        for run in runs.into_iter().take(RUNS_AT_ONCE) {
            is_failing |= !self.forget(run, is_failing).await;
        }
        if is_failing {
            return Ok(());
        }
        let output = output.into_iter().filter(|(run, _)| !self.cleared.contains(run));
        for (run, reason) in output.take(RUNS_AT_ONCE).collect::<Vec<_>>() {
            if !self.remove_output(run, &reason).await {
                break;
            }
        }
        Ok(())
    }

    /// Determines the size of some output whose size is not known.
    async fn measure(&mut self, finished: &[Finished]) {
        let known: BTreeSet<RunId> = finished.iter().map(|run| run.run).collect();
        self.sizes.retain(|run, _| known.contains(run));
        self.cleared.retain(|run| known.contains(run));
        let unknown: Vec<RunId> = known
            .into_iter()
            .filter(|run| !self.sizes.contains_key(run))
            .take(RUNS_AT_ONCE)
            .collect();
        for run in unknown {
            match self.logs.size(run).await {
                Ok(Some(size)) => drop(self.sizes.insert(run, size)),
                Ok(None) => {}
                Err(error) => return debug!(%run, %error, "the size of output is not known"),
            }
        }
    }

    /// Removes the output of a run; returns whether that succeeded.
    async fn remove_output(&mut self, run: RunId, reason: &str) -> bool {
        match self.logs.remove_output(run, reason).await {
            Ok(true) => {
                info!(%run, reason, "output of a finished run removed");
                // Its worker may send some again, so it is looked for once more.
                self.sizes.remove(&run);
            }
            Ok(false) => {
                self.cleared.insert(run);
                self.sizes.insert(run, 0);
            }
            Err(error) => {
                warn!(%run, %error, "output of a finished run not removed");
                return false;
            }
        }
        true
    }

    /// Removes a run with its output, without that in the blob store if the store is failing.
    /// Returns whether the output was removed.
    async fn forget(&mut self, run: RunId, is_failing: bool) -> bool {
        debug!(%run, "removing a finished run");
        // Remove the output first: after a crash the run is still known, and the removal is repeated.
        let removed = match is_failing {
            true => self.logs.forget_files(run).await,
            false => self.logs.forget(run).await,
        };
        if let Err(error) = &removed {
            // It is removed when output of runs that do not exist is looked for.
            warn!(%run, %error, "output of a removed run not removed for now");
        }
        self.sizes.remove(&run);
        self.cleared.remove(&run);
        // A run that cannot be removed now is tried again later.
        let is_gone = self.handle.request(Event::RunExpired { run }).await.is_ok();
        if !is_gone || is_failing {
            return removed.is_ok();
        }
        let history = self.histories.remove(run).await;
        if let Err(error) = &history {
            warn!(%run, %error, "history of a removed run not removed for now");
        }
        removed.is_ok() && history.is_ok()
    }
}

fn finished(core: &Core) -> (Timestamp, Vec<Finished>) {
    let state = core.state();
    let runs = state.summaries_before(None).filter_map(|run| {
        let archive = state.archived_run(run.run).map(|archived| archived.archive);
        Some(Finished {
            run: run.run,
            namespace: run.namespace.to_string(),
            finished_at: run.finished_at?,
            history_bytes: archive.map_or(0, |archive| archive.bytes),
            log_bytes: None,
        })
    });
    (state.now(), runs.collect())
}

fn oldest_finished(core: &Core) -> Vec<RunId> {
    let (_, mut finished) = finished(core);
    finished.sort_unstable_by_key(|run| (run.finished_at, run.run));
    finished.into_iter().map(|run| run.run).collect()
}

async fn free_space(logs: &Logs, oldest: Vec<RunId>) {
    for run in oldest {
        if !logs.is_nearly_full() {
            return;
        }
        match logs.remove_output(run, crate::logs::NO_ROOM).await {
            Ok(false) => {}
            Ok(true) => info!(%run, "output of a finished run removed to make room"),
            Err(error) => warn!(%run, %error, "output of a finished run not removed"),
        }
    }
    warn!("limits.total_log_bytes is nearly used up by runs that have not ended");
}
