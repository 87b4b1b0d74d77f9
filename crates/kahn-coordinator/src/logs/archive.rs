//! The output of attempts in the blob store.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kahn_blob::{BlobStore, Key};
use kahn_model::{AttemptId, RunId};
use tokio::time::Instant;

use super::PIECE_BYTES;
use super::objects::{Object, StoredLog};

/// Maximum number of lists of objects that are remembered.
const KNOWN_MAX: usize = 256;
/// How long a list is used. A reader needs one for each piece otherwise.
const KNOWN_FOR: Duration = Duration::from_secs(2);

/// The group of all objects with output.
const GROUP: &str = "logs";

/// The name of the object that says why the output of a run was removed.
const REMOVED: &str = "removed";

/// The name of the object with the id of the cluster to which the objects belong.
const CLUSTER: &str = "cluster";

/// The output of attempts in a blob store. Clones share what they remember.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    store: BlobStore,
    known: Arc<Mutex<Known>>,
}

/// Lists of objects that are remembered.
#[derive(Debug, Default)]
struct Known {
    logs: BTreeMap<AttemptId, (Instant, Arc<StoredLog>)>,
    /// Increases when something may have changed. A list is not remembered if that happened
    /// while it was made.
    generation: u64,
}

impl Known {
    fn insert(&mut self, attempt: AttemptId, stored: Arc<StoredLog>) {
        if self.logs.len() >= KNOWN_MAX {
            self.logs.retain(|_, (at, _)| at.elapsed() < KNOWN_FOR);
        }
        if self.logs.len() < KNOWN_MAX {
            self.logs.insert(attempt, (Instant::now(), stored));
        }
    }
}

impl Archive {
    pub(super) fn new(store: BlobStore) -> Self {
        Self { store, known: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is stored of an attempt.
    pub(super) async fn find(&self, attempt: AttemptId) -> io::Result<Arc<StoredLog>> {
        let generation = match self.remembered(attempt) {
            Ok(stored) => return Ok(stored),
            Err(generation) => generation,
        };
        let listed = self.store.list(&of_attempt(attempt)?).await.map_err(io::Error::other)?;
        let objects = listed.iter().filter_map(|entry| Object::parse(entry.key.last_part()));
        let stored = Arc::new(StoredLog::of(objects));
        let mut known = self.lock();
        if known.generation == generation && stored.owner.is_some() {
            known.insert(attempt, Arc::clone(&stored));
        }
        Ok(stored)
    }

    /// Returns what is known of an attempt, or the generation of what is known.
    fn remembered(&self, attempt: AttemptId) -> Result<Arc<StoredLog>, u64> {
        let known = self.lock();
        match known.logs.get(&attempt) {
            Some((at, stored)) if at.elapsed() < KNOWN_FOR => Ok(Arc::clone(stored)),
            _ => Err(known.generation),
        }
    }

    fn forget(&self, attempt: AttemptId) {
        let mut known = self.lock();
        known.logs.remove(&attempt);
        known.generation += 1;
    }

    /// Forgets everything, because another coordinator may have led.
    pub(super) fn forget_all(&self) {
        let mut known = self.lock();
        known.logs.clear();
        known.generation += 1;
    }

    /// Reads up to 256 KiB from `offset` on; returns an empty result at the end.
    pub(super) async fn read(
        &self,
        attempt: AttemptId,
        stored: &StoredLog,
        offset: u64,
    ) -> io::Result<Bytes> {
        let Some((object, range)) = stored.locate(offset) else { return Ok(Bytes::new()) };
        let range = range.start..range.end.min(range.start + PIECE_BYTES);
        let key = of_attempt(attempt)?.join(object.name()).map_err(io::Error::other)?;
        let data = self.store.get_range(&key, range).await.map_err(io::Error::other)?;
        if data.is_none() {
            // It was removed after it was listed.
            self.forget(attempt);
        }
        Ok(data.unwrap_or_default())
    }

    pub(super) async fn put(
        &self,
        attempt: AttemptId,
        object: Object,
        data: Bytes,
    ) -> io::Result<()> {
        let key = of_attempt(attempt)?.join(object.name()).map_err(io::Error::other)?;
        self.store.put(&key, data).await.map_err(io::Error::other)?;
        self.forget(attempt);
        Ok(())
    }

    /// Removes all output of a run.
    pub(super) async fn remove(&self, run: RunId) -> io::Result<()> {
        let listed = self.store.list(&of_run(run)?).await.map_err(io::Error::other)?;
        let keys = listed.into_iter().map(|entry| entry.key).collect();
        self.store.remove_all(keys).await.map_err(io::Error::other)?;
        self.forget_all();
        Ok(())
    }

    /// Removes all output of a run, of which the reason remains.
    pub(super) async fn remove_because(&self, run: RunId, reason: &str) -> io::Result<()> {
        let mark = of_run(run)?.join(REMOVED).map_err(io::Error::other)?;
        // The reason comes first: a crash in between leaves output, which is removed later.
        let reason = Bytes::copy_from_slice(reason.as_bytes());
        self.store.put(&mark, reason).await.map_err(io::Error::other)?;
        let listed = self.store.list(&of_run(run)?).await.map_err(io::Error::other)?;
        let keys = listed.into_iter().map(|entry| entry.key).filter(|key| *key != mark).collect();
        self.store.remove_all(keys).await.map_err(io::Error::other)?;
        self.forget_all();
        Ok(())
    }

    /// Returns why the output of a run was removed, if it was.
    pub(super) async fn why_removed(&self, run: RunId) -> io::Result<Option<String>> {
        let mark = of_run(run)?.join(REMOVED).map_err(io::Error::other)?;
        let reason = self.store.get(&mark).await.map_err(io::Error::other)?;
        Ok(reason.map(|reason| String::from_utf8_lossy(&reason).into_owned()))
    }

    /// Returns the runs that have output, those that do not exist any more included.
    pub(super) async fn runs(&self) -> io::Result<Vec<RunId>> {
        let groups = self.store.groups(&key(GROUP)?).await.map_err(io::Error::other)?;
        Ok(groups.iter().filter_map(|group| group.last_part().parse().ok()).collect())
    }

    /// Returns the size of the output of a run in bytes.
    pub(super) async fn size(&self, run: RunId) -> io::Result<u64> {
        let listed = self.store.list(&of_run(run)?).await.map_err(io::Error::other)?;
        let output = listed.iter().filter(|entry| entry.key.last_part() != REMOVED);
        Ok(output.map(|entry| entry.size).sum())
    }

    /// Returns how long ago the latest output of a run was written, or `None` if there is none.
    pub(super) async fn age(&self, run: RunId) -> io::Result<Option<Duration>> {
        let listed = self.store.list(&of_run(run)?).await.map_err(io::Error::other)?;
        let latest = listed.iter().map(|entry| entry.modified).max();
        Ok(latest.map(|at| at.elapsed().unwrap_or_default()))
    }

    /// Reserves the blob store for the output of a cluster; returns whether it is free or has that
    /// of this cluster already.
    pub(super) async fn claim(&self, cluster: &str) -> io::Result<bool> {
        let (mark, own) = (key(CLUSTER)?, Bytes::copy_from_slice(cluster.as_bytes()));
        if let Some(found) = self.store.get(&mark).await.map_err(io::Error::other)? {
            return Ok(found == own);
        }
        if self.store.put_if_absent(&mark, own.clone()).await.map_err(io::Error::other)? {
            return Ok(true);
        }
        // Another coordinator was faster, or the answer to an earlier request was lost.
        let found = self.store.get(&mark).await.map_err(io::Error::other)?;
        Ok(found.is_some_and(|found| found == own))
    }
}

fn key(name: impl Into<String>) -> io::Result<Key> {
    Key::new(name).map_err(io::Error::other)
}

fn of_run(run: RunId) -> io::Result<Key> {
    key(format!("{GROUP}/{run}"))
}

fn of_attempt(attempt: AttemptId) -> io::Result<Key> {
    let AttemptId { run, task, number } = attempt;
    key(format!("{GROUP}/{run}/{}.{number}", task.0))
}
