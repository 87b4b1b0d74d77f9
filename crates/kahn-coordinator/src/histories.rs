//! Archived runs in the blob store.
//!
//! A run is one document, which is stored in objects below `history/RUN/`. They are named by the
//! digest of the document, so a coordinator that does not know of its deposition replaces nothing.
//! Who reads an archived run gets a core that has this run alone, and shows it like any other.

mod archiver;
mod cache;
mod objects;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kahn_blob::{BlobError, BlobStore};
use kahn_core::{ArchiveRef, Core, RunSnapshot, Settings, Snapshot};
use kahn_model::{RunId, Timestamp};
use kahn_store::codec::{self, CodecError};
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub(crate) use archiver::{ArchiveStats, Archiving};
use cache::Cache;
use objects::Objects;

/// Maximum number of runs that are read at a time, so that large ones do not use up the memory.
const READ_AT_ONCE: usize = 4;
/// How long readers get the same error again, instead of a timeout each.
const SAME_FOR: Duration = Duration::from_secs(5);

/// Why an archived run cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    /// This coordinator has no blob store.
    #[error(
        "run {0} is archived, and this coordinator has no blob store; set coordinator.blobs.url to \
         the one that the run was archived in"
    )]
    NoStore(RunId),
    /// An object does not exist.
    #[error("run {run} is archived, and the object {object} is not in the blob store")]
    Missing { run: RunId, object: String },
    /// The blob store fails.
    #[error("run {run} is archived, and cannot be read for now: {source}")]
    Store { run: RunId, source: Box<BlobError> },
    /// The blob store has failed just now, and was not asked again.
    #[error("run {run} is archived, and cannot be read for now: {reason}")]
    Failing { run: RunId, reason: String },
    /// The objects are not those that were stored.
    #[error("run {run} is archived, and what is stored of it cannot be used: {source}")]
    Damaged { run: RunId, source: CodecError },
    /// This coordinator is stopping.
    #[error("the coordinator is stopping")]
    Stopping,
}

impl HistoryError {
    /// Returns whether the same may succeed later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Store { .. } | Self::Failing { .. } | Self::Stopping => true,
            Self::NoStore(_) | Self::Missing { .. } | Self::Damaged { .. } => false,
        }
    }
}

/// The archived runs of a cluster. Clones share what they remember.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histories(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    objects: Objects,
    cache: Cache,
    permits: Semaphore,
    /// The latest failure of the blob store.
    failed: Mutex<Option<(Instant, String)>>,
}

impl Histories {
    /// Uses a blob store. The default value has none, and nothing is archived.
    pub(crate) fn new(store: BlobStore) -> Self {
        let (objects, permits) = (Objects::new(store), Semaphore::new(READ_AT_ONCE));
        let (cache, failed) = Default::default();
        Self(Some(Arc::new(Shared { objects, cache, permits, failed })))
    }

    /// Returns whether there is a blob store.
    pub(crate) fn has_store(&self) -> bool {
        self.0.is_some()
    }

    /// Stores the document with a run. It is stored completely when this returns.
    pub(crate) async fn put(
        &self,
        run: RunId,
        archive: ArchiveRef,
        document: Bytes,
    ) -> Result<(), HistoryError> {
        let shared = self.0.as_ref().ok_or(HistoryError::NoStore(run))?;
        shared.objects.put(run, archive, document).await
    }

    /// Returns a core that has an archived run alone. A run that several want is read once.
    pub(crate) async fn read(
        &self,
        run: RunId,
        archive: ArchiveRef,
    ) -> Result<Arc<Core>, HistoryError> {
        let shared = self.0.as_ref().ok_or(HistoryError::NoStore(run))?;
        let cell = shared.cache.entry(run, archive);
        let core = cell.get_or_try_init(|| shared.fetch(run, archive)).await?;
        Ok(Arc::clone(core))
    }

    /// Removes everything that is stored of a run.
    pub(crate) async fn remove(&self, run: RunId) -> Result<(), HistoryError> {
        match &self.0 {
            Some(shared) => shared.objects.remove(run).await,
            None => Ok(()),
        }
    }

    /// Removes everything that is stored of a run if all of it is older than `age`; returns whether
    /// it was removed.
    pub(crate) async fn remove_if_older(
        &self,
        run: RunId,
        age: Duration,
    ) -> Result<bool, HistoryError> {
        match &self.0 {
            Some(shared) => shared.objects.remove_if_older(run, age).await,
            None => Ok(false),
        }
    }

    /// Returns the runs of which anything is stored, those that do not exist any more included.
    pub(crate) async fn runs(&self) -> Result<Vec<RunId>, BlobError> {
        match &self.0 {
            Some(shared) => shared.objects.runs().await,
            None => Ok(Vec::new()),
        }
    }
}

impl Shared {
    async fn fetch(&self, run: RunId, archive: ArchiveRef) -> Result<Arc<Core>, HistoryError> {
        let _permit = self.permits.acquire().await.map_err(|_| HistoryError::Stopping)?;
        if let Some(reason) = self.recent_failure() {
            return Err(HistoryError::Failing { run, reason });
        }
        let read = self.objects.get(run, archive).await;
        if let Err(HistoryError::Store { source, .. }) = &read {
            *self.lock_failed() = Some((Instant::now(), source.to_string()));
        }
        let document = read?;
        // A run of a million tasks takes seconds.
        let restoring = tokio::task::spawn_blocking(move || restore(run, archive, &document));
        restoring.await.map_err(|_| HistoryError::Stopping)?
    }

    fn lock_failed(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the latest failure if it is very recent.
    fn recent_failure(&self) -> Option<String> {
        let failed = self.lock_failed();
        let (at, reason) = failed.as_ref()?;
        (at.elapsed() < SAME_FOR).then(|| reason.clone())
    }
}

fn restore(run: RunId, archive: ArchiveRef, document: &[u8]) -> Result<Arc<Core>, HistoryError> {
    let decoded = codec::decode_archive(archive, document).and_then(|snapshot| {
        match snapshot.submission.run == run {
            true => Ok(snapshot),
            false => Err(CodecError::Inconsistent("it is another run")),
        }
    });
    let snapshot = decoded.map_err(|source| HistoryError::Damaged { run, source })?;
    Ok(Arc::new(alone(snapshot)))
}

/// Returns a core that has this run alone.
pub(crate) fn alone(run: RunSnapshot) -> Core {
    let mut core = Core::new(Settings::default());
    let at = run.finished_at.unwrap_or(Timestamp::ZERO);
    core.restore(Snapshot { at, runs: vec![run], ..Snapshot::default() });
    core
}

#[cfg(test)]
mod tests;
