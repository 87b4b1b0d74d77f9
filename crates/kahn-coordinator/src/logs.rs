//! The output of attempts, stored in files in the coordinator's data directory, and in the blob store
//! if one is configured.
//!
//! Each attempt with output has one file, named by ids and never by user-supplied names. Workers
//! send pieces with offsets. Bytes that are already stored are skipped, and after a gap the worker
//! is told the offset at which to continue, so the stored output has neither gaps nor repetitions.
//! A log belongs to the lease under which it was started. A log that is not sealed is still
//! incomplete.
//!
//! With a blob store, the file of an attempt is a buffer: it serves readers while the output comes,
//! and is removed when the blob store has everything. A worker keeps the output of an attempt until
//! then, so the loss of a coordinator with its files loses no output: the next leader continues where
//! the blob store ends.

mod archive;
mod chunks;
mod claim;
mod objects;
mod quota;
mod reading;
mod recovery;
mod removal;
mod since;
mod uploads;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use bytes::Bytes;
use kahn_blob::BlobStore;
use kahn_model::{AttemptId, Timestamp, Token};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use objects::StoredLog;
use quota::{StorageQuota, bytes_below};
use uploads::Uploads;
use writing::{Paths, Writing};

pub(crate) use uploads::UploadStats;

/// Maximum number of bytes per read.
const PIECE_BYTES: u64 = 256 << 10;
/// How often to check whether there is room for more output that is not in the blob store.
const ROOM_EVERY: Duration = Duration::from_millis(100);
/// Maximum number of open logs; others are reopened when more output arrives.
const OPEN_MAX: usize = 512;

/// Maximum number of attempts whose output is expected again.
const EXPECTED_MAX: usize = 200_000;

/// Why output was removed to make room on the disk of the coordinator.
pub(crate) const NO_ROOM: &str = "it was removed to make room (limits.total_log_bytes)";

/// Checks whether output in a blob store can be listed.
pub(crate) async fn check(store: &BlobStore) -> io::Result<()> {
    archive::Archive::new(store.clone()).runs().await.map(|_| ())
}

/// The extent of an attempt's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Number of bytes.
    pub len: u64,
    /// Whether the output is complete.
    pub is_sealed: bool,
}

/// Limits on the stored output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps {
    /// Bytes per attempt.
    pub attempt_bytes: u64,
    /// Bytes of all attempts of all runs.
    pub total_bytes: u64,
}

/// A piece of output.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// The offset of the first byte.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
    /// Whether the output ends with this piece.
    pub is_sealed: bool,
}

/// The answer to a piece.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    /// The extent received: larger than the stored one if a limit was reached, and ending before
    /// the piece if there is a gap.
    pub received: Extent,
    /// Becomes true when the output, which is complete, is in the blob store. `None` if it is not
    /// complete, or is stored already.
    pub storing: Option<watch::Receiver<bool>>,
}

/// A term of this coordinator.
#[derive(Debug, Default)]
struct TermOfLogs {
    /// Its epoch, or zero before the first.
    epoch: u64,
    began_at: Option<Instant>,
}

/// The output of all attempts.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    dir: PathBuf,
    attempt_bytes: u64,
    quota: StorageQuota,
    /// Logs that are being written.
    open: Arc<Mutex<BTreeMap<AttemptId, Arc<Mutex<Writing>>>>>,
    /// Logs that are being watched.
    watched: Arc<Mutex<BTreeMap<AttemptId, watch::Sender<Extent>>>>,
    /// Since when all output was received here, in microseconds since the Unix epoch.
    complete_since: Arc<AtomicU64>,
    /// The current term.
    term: Arc<Mutex<TermOfLogs>>,
    /// Attempts of which workers have output that is not stored.
    expected: Arc<Mutex<BTreeSet<AttemptId>>>,
    /// The uploads to the blob store; `None` without one.
    uploads: Option<Uploads>,
}

impl Logs {
    pub(crate) fn new(dir: PathBuf, caps: Caps) -> Self {
        let quota = StorageQuota::new(caps.total_bytes);
        let attempt_bytes = caps.attempt_bytes;
        let (open, watched, complete_since, term, expected) = Default::default();
        Self {
            dir,
            attempt_bytes,
            quota,
            open,
            watched,
            complete_since,
            term,
            expected,
            uploads: None,
        }
    }

    /// Stores all output in a blob store, too.
    pub(crate) fn with_store(self, store: BlobStore, stats: UploadStats) -> Self {
        let archive = archive::Archive::new(store);
        Self { uploads: Some(Uploads::new(archive, stats)), ..self }
    }

    /// Records that this coordinator leads from `now` on, with the epoch of its term.
    pub(crate) fn begin_term(&self, epoch: u64, now: Timestamp) {
        *self.lock_term() = TermOfLogs { epoch, began_at: Some(Instant::now()) };
        if let Some(uploads) = &self.uploads {
            uploads.archive.forget_all();
            uploads.doubt_all();
        }
        let since = since::begin(&self.dir.with_extension("since"), epoch, now);
        let since = since.unwrap_or_else(|error| {
            warn!(%error, "it is not known whether another coordinator has led");
            now
        });
        self.complete_since.store(since.0, Ordering::Relaxed);
    }

    fn lock_term(&self) -> MutexGuard<'_, TermOfLogs> {
        self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how long the current term lasts.
    pub(crate) fn term_age(&self) -> Duration {
        self.lock_term().began_at.map_or(Duration::ZERO, |began_at| began_at.elapsed())
    }

    fn lock_expected(&self) -> MutexGuard<'_, BTreeSet<AttemptId>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a worker has output of these attempts, which it sends again if necessary.
    pub(crate) fn expect_again(&self, attempts: impl Iterator<Item = AttemptId>) {
        let mut expected = self.lock_expected();
        let room = EXPECTED_MAX.saturating_sub(expected.len());
        expected.extend(attempts.take(room));
    }

    /// Returns whether a worker has output of an attempt that it has not sent completely.
    pub(crate) fn is_expected(&self, attempt: AttemptId) -> bool {
        self.lock_expected().contains(&attempt)
    }

    /// Returns whether the output that another coordinator has received can be read.
    pub(crate) fn is_shared(&self) -> bool {
        self.uploads.is_some()
    }

    /// Returns since when no other coordinator has received output.
    pub(crate) fn complete_since(&self) -> Timestamp {
        Timestamp(self.complete_since.load(Ordering::Relaxed))
    }

    /// Stores a piece.
    pub(crate) async fn write(
        &self,
        attempt: AttemptId,
        token: Token,
        piece: Piece,
    ) -> io::Result<Receipt> {
        self.wait_for_room().await;
        let cap = self.attempt_bytes;
        let quota = self.quota.clone();
        // Under a lease of this term, no other coordinator has received output.
        let is_first = piece.offset == 0 && token.epoch == self.lock_term().epoch;
        let stored = if is_first { None } else { self.stored(attempt).await };
        let logs = self.clone();
        // Announced while the log is locked, so that its file cannot be replaced in between; and
        // before the first byte is written, because readers need to know the offset of that.
        let work = move |writing: &mut Writing| {
            writing.begin(token)?;
            logs.announce_upload(attempt, writing)?;
            let received = writing.take(&piece, cap, &quota)?;
            let storing = logs.announce_upload(attempt, writing)?;
            Ok((writing.extent(), received, storing))
        };
        let (kept, received, storing) = self.with(attempt, stored, work).await?;
        self.announce(attempt, kept);
        if kept.is_sealed {
            self.lock_expected().remove(&attempt);
        }
        Ok(Receipt { received, storing: storing.filter(|_| received.is_sealed) })
    }

    /// Announces what the local file has to the task that uploads it, if there are both. Returns a
    /// receiver that becomes true when the complete output is in the blob store.
    fn announce_upload(
        &self,
        attempt: AttemptId,
        writing: &Writing,
    ) -> io::Result<Option<watch::Receiver<bool>>> {
        let Some(uploads) = &self.uploads else { return Ok(None) };
        let local = writing.local(false)?;
        Ok(local.map(|local| uploads.announce(self, attempt, local)))
    }

    /// Waits while there is too much output that is not in the blob store. Workers keep it.
    async fn wait_for_room(&self) {
        while self.uploads.is_some() && self.quota.is_nearly_full() {
            tokio::time::sleep(ROOM_EVERY).await;
        }
    }

    /// Returns what the blob store has of an attempt that is not open.
    async fn stored(&self, attempt: AttemptId) -> Option<Arc<StoredLog>> {
        let uploads = self.uploads.as_ref()?;
        if self.lock_open().contains_key(&attempt) || uploads.needs_local(attempt) {
            return None;
        }
        // Without an answer the worker sends everything again, which it keeps until it is stored.
        let found = uploads.find(attempt).await;
        found.inspect_err(|error| debug!(%error, "stored output is not known")).ok()
    }

    /// Records that an attempt has output, even if none has arrived yet. Only for output that is not
    /// uploaded: otherwise, each leader is told by the worker.
    pub(crate) async fn expect(&self, attempt: AttemptId, token: Token) -> io::Result<()> {
        self.with(attempt, None, move |writing| writing.begin(token)).await
    }

    /// Returns the lease under which the log was started, or `None` if it was not started.
    pub(crate) async fn owner(&self, attempt: AttemptId) -> io::Result<Option<Token>> {
        let stored = self.stored(attempt).await;
        self.with(attempt, stored, |writing| Ok(writing.owner())).await
    }

    async fn with<T: Send + 'static>(
        &self,
        attempt: AttemptId,
        stored: Option<Arc<StoredLog>>,
        work: impl FnOnce(&mut Writing) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let known = self.lock_open().get(&attempt).map(Arc::clone);
        let paths = self.paths(attempt);
        let open = Arc::clone(&self.open);
        let repair = self.uploads.is_some().then(|| self.quota.clone());
        let blocking = move || {
            let shared = match known {
                Some(known) => known,
                None => {
                    let writing = Writing::open(paths, stored.as_deref())?;
                    remember(&open, attempt, || match &repair {
                        Some(quota) => writing.without_damage(stored.as_deref(), quota),
                        None => Ok(writing),
                    })?
                }
            };
            let mut writing = shared.lock().unwrap_or_else(PoisonError::into_inner);
            writing.reopen_if_failed()?;
            let done = work(&mut writing);
            writing.note_failure(done.is_err());
            let is_sealed = writing.extent().is_sealed;
            drop(writing);
            if is_sealed {
                open.lock().unwrap_or_else(PoisonError::into_inner).remove(&attempt);
            }
            done
        };
        tokio::task::spawn_blocking(blocking).await.map_err(io::Error::other)?
    }

    fn lock_open(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Arc<Mutex<Writing>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paths(&self, attempt: AttemptId) -> Paths {
        Paths::new(&self.dir.join(attempt.run.to_string()), attempt)
    }

    /// Returns a receiver that is notified about new output.
    pub(crate) fn watch(&self, attempt: AttemptId) -> watch::Receiver<Extent> {
        let mut all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, sender| sender.receiver_count() > 0);
        all.entry(attempt).or_insert_with(|| watch::Sender::new(Extent::default())).subscribe()
    }

    fn announce(&self, attempt: AttemptId, extent: Extent) {
        let all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = all.get(&attempt) {
            sender.send_replace(extent);
        }
    }
}

/// If two streams of a worker open the same attempt concurrently, the first one's log is used.
fn remember(
    open: &Mutex<BTreeMap<AttemptId, Arc<Mutex<Writing>>>>,
    attempt: AttemptId,
    writing: impl FnOnce() -> io::Result<Writing>,
) -> io::Result<Arc<Mutex<Writing>>> {
    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
    if open.len() >= OPEN_MAX {
        open.retain(|_, writing| Arc::strong_count(writing) > 1);
    }
    if let Some(writing) = open.get(&attempt) {
        return Ok(Arc::clone(writing));
    }
    let writing = Arc::new(Mutex::new(writing()?));
    open.insert(attempt, Arc::clone(&writing));
    Ok(writing)
}

#[cfg(test)]
mod tests;
