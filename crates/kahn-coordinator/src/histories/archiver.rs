//! Archives runs some time after their end.
//!
//! A run is stored first. Only then the core drops it. If anything fails in between, the run stays
//! as it is, and storing it again does no harm.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use kahn_core::{ArchiveRef, Core, Event, RunSnapshot};
use kahn_model::RunId;
use kahn_runtime::metrics::Metrics;
use kahn_store::codec::{self, CodecError};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::{Histories, HistoryError};
use crate::config::RetentionConfig;
use crate::inbox::{Handle, RequestError};
use crate::logs::Logs;

/// Maximum number of runs that are archived at a time.
const RUNS_AT_ONCE: usize = 16;
/// Maximum number of tasks of runs that are archived at a time, unless a single one has more.
const TASKS_AT_ONCE: usize = 50_000;

/// How many runs in a row may fail to be archived before the others wait for the next look.
const FAILURES_MAX: usize = 2 * RUNS_AT_ONCE;

/// Metrics of archiving.
#[derive(Clone, Debug)]
pub(crate) struct ArchiveStats {
    pending: Gauge,
    failures: Counter,
}

impl ArchiveStats {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let pending = "Finished runs that should be archived and are not yet";
        let failures = "Failed attempts to archive a run, which are repeated";
        Self {
            pending: metrics.gauge("archive_pending", pending),
            failures: metrics.counter("archive_failures", failures),
        }
    }
}

/// What is needed to archive the runs of a leadership.
#[derive(Debug)]
pub(crate) struct Archiving {
    pub handle: Handle,
    pub logs: Logs,
    pub histories: Histories,
    pub config: RetentionConfig,
    pub stats: ArchiveStats,
}

impl Archiving {
    /// Starts to archive runs, if there is a blob store.
    pub(crate) fn spawn(self) -> JoinHandle<()> {
        tokio::spawn(async move {
            if self.histories.has_store() {
                // It ends with the leadership.
                drop(Archiver { archiving: self, is_failing: false }.run().await);
            }
        })
    }
}

struct Archiver {
    archiving: Archiving,
    /// Whether it was said that runs cannot be archived.
    is_failing: bool,
}

impl Drop for Archiver {
    fn drop(&mut self) {
        self.archiving.stats.pending.set(0);
    }
}

/// A run that should be archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    run: RunId,
    n_tasks: usize,
}

impl Archiver {
    async fn run(mut self) -> Result<(), RequestError> {
        loop {
            tokio::time::sleep(self.archiving.config.check_every).await;
            self.look().await?;
        }
    }

    /// Archives all runs that are due, or as many as the blob store takes.
    async fn look(&mut self) -> Result<(), RequestError> {
        let after = self.archiving.config.archive_after;
        let due = self.archiving.handle.query(move |core| due(core, after)).await?;
        self.set_pending(due.len());
        // The store may be used by another cluster.
        if due.is_empty() || self.archiving.logs.check_claim().is_err() {
            return Ok(());
        }
        let (mut n_left, mut n_failed) = (due.len(), 0);
        for batch in batches(due) {
            let results = join_all(batch.iter().map(|due| self.archive(due.run))).await;
            for (due, result) in batch.iter().zip(results) {
                match result? {
                    Ok(()) => {
                        n_left = n_left.saturating_sub(1);
                        n_failed = 0;
                    }
                    Err(error) => {
                        n_failed += 1;
                        self.failed(due.run, &error);
                    }
                }
            }
            self.set_pending(n_left);
            // One run that cannot be stored does not stop the others, but a store that fails does.
            if FAILURES_MAX <= n_failed {
                return Ok(());
            }
        }
        if n_left == 0 && std::mem::take(&mut self.is_failing) {
            info!("finished runs are archived again");
        }
        Ok(())
    }

    /// Archives a run, unless it has changed meanwhile.
    async fn archive(&self, run: RunId) -> Result<Result<(), HistoryError>, RequestError> {
        let Archiving { handle, histories, .. } = &self.archiving;
        let Some(snapshot) = handle.query(move |core| finished(core, run)).await? else {
            return Ok(Ok(()));
        };
        let (n_records, finished_at) = (snapshot.history.len(), snapshot.finished_at);
        // A run of a million tasks takes seconds.
        let encoding = tokio::task::spawn_blocking(move || encode(&snapshot));
        let (archive, document) = match encoding.await.map_err(|_| RequestError::Stopping)? {
            Ok(encoded) => encoded,
            Err(source) => return Ok(Err(HistoryError::Damaged { run, source })),
        };
        if let Err(error) = histories.put(run, archive, document).await {
            return Ok(Err(error));
        }
        match handle.request(Event::RunStored { run, n_records, finished_at, archive }).await {
            Ok(()) => Ok(Ok(())),
            // It was retried or removed meanwhile. If it ends, it is stored again.
            Err(RequestError::Refused(refusal)) => {
                debug!(%run, %refusal, "not archived");
                Ok(Ok(()))
            }
            Err(stopping @ RequestError::Stopping) => Err(stopping),
        }
    }

    fn failed(&mut self, run: RunId, error: &HistoryError) {
        self.archiving.stats.failures.inc();
        match std::mem::replace(&mut self.is_failing, true) {
            false => warn!(%run, %error, "finished runs are not archived for now"),
            true => debug!(%run, %error, "not archived"),
        }
    }

    fn set_pending(&self, n: usize) {
        self.archiving.stats.pending.set(i64::try_from(n).unwrap_or(i64::MAX));
    }
}

/// Encodes a run. The core will have nothing else of it, so that the document is read again first.
fn encode(snapshot: &RunSnapshot) -> Result<(ArchiveRef, Bytes), CodecError> {
    let (archive, document) = codec::encode_archive(snapshot);
    if codec::decode_archive(archive, &document)? != *snapshot {
        return Err(CodecError::Inconsistent("the run is not encoded as it is"));
    }
    Ok((archive, document))
}

/// Returns the runs that ended at least `after` ago, in the order of their ids.
fn due(core: &Core, after: Duration) -> Vec<Due> {
    let now = core.state().now();
    let runs = core.state().runs();
    let is_due = |finished_at| now.since(finished_at) >= after;
    runs.filter(|run| run.state.is_terminal() && run.finished_at.is_some_and(is_due))
        .map(|run| Due { run: run.id(), n_tasks: run.dag.n_tasks() })
        .collect()
}

fn finished(core: &Core, run: RunId) -> Option<RunSnapshot> {
    let run = core.state().run(run).filter(|run| run.state.is_terminal())?;
    Some(core.state().snapshot_run(run))
}

/// Divides runs into batches that do not take too much memory at a time.
fn batches(due: Vec<Due>) -> Vec<Vec<Due>> {
    let mut batches: Vec<Vec<Due>> = Vec::new();
    let mut n_tasks = 0;
    for one in due {
        n_tasks += one.n_tasks;
        match batches.last_mut() {
            Some(batch) if batch.len() < RUNS_AT_ONCE && n_tasks <= TASKS_AT_ONCE => {
                batch.push(one);
            }
            _ => {
                n_tasks = one.n_tasks;
                batches.push(vec![one]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use kahn_model::Uuid;

    use super::*;

    #[test]
    fn a_batch_has_neither_too_many_runs_nor_too_many_tasks() {
        let due = |n_tasks: &usize| Due { run: RunId::new(Uuid::nil()), n_tasks: *n_tasks };
        let sizes = |tasks: &[usize]| -> Vec<usize> {
            batches(tasks.iter().map(due).collect()).iter().map(Vec::len).collect()
        };
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&[1; 2 * RUNS_AT_ONCE + 1]), [RUNS_AT_ONCE, RUNS_AT_ONCE, 1]);
        assert_eq!(sizes(&[TASKS_AT_ONCE - 1, 1, 1, TASKS_AT_ONCE + 1, 1]), [2, 1, 1, 1]);
    }
}
