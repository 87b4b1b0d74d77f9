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
const KNOWN_MAX: usize = 1024;
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
    /// The number of changes of all attempts together.
    n_changes: u64,
    /// When an attempt has changed last. A list is not remembered if its attempt has changed while
    /// it was made.
    changed: BTreeMap<AttemptId, u64>,
    /// Changes up to this one may be of any attempt.
    all_changed: u64,
}

impl Known {
    fn change(&mut self, attempt: AttemptId) {
        self.logs.remove(&attempt);
        self.n_changes += 1;
        if self.changed.len() >= KNOWN_MAX {
            self.changed.clear();
            self.all_changed = self.n_changes;
        }
        self.changed.insert(attempt, self.n_changes);
    }

    fn change_all(&mut self) {
        self.logs.clear();
        self.changed.clear();
        self.n_changes += 1;
        self.all_changed = self.n_changes;
    }

    /// Returns whether an attempt has not changed since there were `n_changes`.
    fn is_unchanged(&self, attempt: AttemptId, n_changes: u64) -> bool {
        let latest = self.changed.get(&attempt).copied().unwrap_or(0);
        latest.max(self.all_changed) <= n_changes
    }

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
        let n_changes = match self.remembered(attempt) {
            Ok(stored) => return Ok(stored),
            Err(n_changes) => n_changes,
        };
        let listed = self.store.list(&of_attempt(attempt)?).await.map_err(io::Error::other)?;
        let objects = listed.iter().filter_map(|entry| Object::parse(entry.key.last_part()));
        let stored = Arc::new(StoredLog::of(objects));
        let mut known = self.lock();
        // That there is nothing is remembered, too: readers of a silent attempt ask all the time.
        if known.is_unchanged(attempt, n_changes) {
            known.insert(attempt, Arc::clone(&stored));
        }
        Ok(stored)
    }

    /// Returns what is known of an attempt, or the number of changes so far.
    fn remembered(&self, attempt: AttemptId) -> Result<Arc<StoredLog>, u64> {
        let known = self.lock();
        match known.logs.get(&attempt) {
            Some((at, stored)) if at.elapsed() < KNOWN_FOR => Ok(Arc::clone(stored)),
            _ => Err(known.n_changes),
        }
    }

    fn forget(&self, attempt: AttemptId) {
        self.lock().change(attempt);
    }

    /// Forgets everything, because another coordinator may have led.
    pub(super) fn forget_all(&self) {
        self.lock().change_all();
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
        self.store.remove_group(&of_run(run)?, None).await.map_err(io::Error::other)?;
        self.forget_all();
        Ok(())
    }

    /// Removes all output of a run, of which the reason remains.
    pub(super) async fn remove_because(&self, run: RunId, reason: &str) -> io::Result<()> {
        let mark = of_run(run)?.join(REMOVED).map_err(io::Error::other)?;
        // The reason comes first: a crash in between leaves output, which is removed later.
        let reason = Bytes::copy_from_slice(reason.as_bytes());
        self.store.put(&mark, reason).await.map_err(io::Error::other)?;
        self.store.remove_group(&of_run(run)?, Some(&mark)).await.map_err(io::Error::other)?;
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

#[cfg(test)]
mod tests {
    use kahn_model::{TaskIx, Uuid};

    use super::*;

    fn attempt(number: u32) -> AttemptId {
        AttemptId { run: RunId::new(Uuid::from_u128(1)), task: TaskIx(2), number }
    }

    #[test]
    fn a_change_concerns_its_attempt_alone() {
        let mut known = Known::default();
        let before = known.n_changes;
        known.change(attempt(1));
        assert!(!known.is_unchanged(attempt(1), before));
        assert!(known.is_unchanged(attempt(2), before));
        assert!(known.is_unchanged(attempt(1), known.n_changes));
        known.change_all();
        assert!(!known.is_unchanged(attempt(2), before));
    }

    #[test]
    fn no_change_is_overlooked_when_many_attempts_change() {
        let mut known = Known::default();
        let before = known.n_changes;
        for number in 0..=u32::try_from(KNOWN_MAX).unwrap() {
            known.change(attempt(number));
        }
        assert!(known.changed.len() <= KNOWN_MAX);
        assert!(!known.is_unchanged(attempt(0), before) && !known.is_unchanged(attempt(5), before));
    }

    #[tokio::test]
    async fn that_nothing_is_stored_is_remembered_until_something_is() {
        let settings = kahn_blob::Settings::new("memory:");
        let archive = Archive::new(BlobStore::open(&settings).unwrap());
        assert_eq!(*archive.find(attempt(1)).await.unwrap(), StoredLog::default());
        assert!(archive.remembered(attempt(1)).is_ok());
        let token = kahn_model::Token { epoch: 1, serial: 1, nonce: 1 };
        let object = Object { token, start: 0, end: 4, is_end: true };
        archive.put(attempt(1), object, Bytes::from_static(b"text")).await.unwrap();
        assert!(archive.remembered(attempt(1)).is_err());
        assert!(archive.find(attempt(1)).await.unwrap().extent.is_sealed);
    }
}
