//! The output of attempts, stored in files in the coordinator's data directory.
//!
//! Each attempt with output has one file, named by ids and never by user-supplied names. Workers
//! send pieces with offsets. Bytes that are already stored are skipped, and after a gap the worker
//! is told the offset at which to continue, so the stored output has neither gaps nor repetitions.
//! A log belongs to the lease under which it was started. A log that is not sealed is still
//! incomplete.

mod quota;
mod since;
mod writing;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kahn_model::{AttemptId, RunId, Timestamp, Token};
use tokio::fs;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::watch;
use tracing::warn;

use quota::StorageQuota;
use writing::{Paths, Writing};

/// Maximum number of bytes per read.
const PIECE_BYTES: u64 = 256 << 10;
/// Maximum number of open logs; others are reopened when more output arrives.
const OPEN_MAX: usize = 512;

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
}

impl Logs {
    pub(crate) fn new(dir: PathBuf, caps: Caps) -> Self {
        let quota = StorageQuota::new(caps.total_bytes);
        let attempt_bytes = caps.attempt_bytes;
        let (open, watched, complete_since) = Default::default();
        Self { dir, attempt_bytes, quota, open, watched, complete_since }
    }

    /// Records that this coordinator leads from `now` on, with the epoch of its term.
    pub(crate) fn begin_term(&self, epoch: u64, now: Timestamp) {
        let since = since::begin(&self.dir.with_extension("since"), epoch, now);
        let since = since.unwrap_or_else(|error| {
            warn!(%error, "it is not known whether another coordinator has led");
            now
        });
        self.complete_since.store(since.0, Ordering::Relaxed);
    }

    /// Returns since when no other coordinator has received output.
    pub(crate) fn complete_since(&self) -> Timestamp {
        Timestamp(self.complete_since.load(Ordering::Relaxed))
    }

    /// Counts the bytes stored before this start.
    pub(crate) async fn count(&self) {
        let (quota, dir) = (self.quota.clone(), self.dir.clone());
        // The count is skipped if the runtime shuts down.
        drop(tokio::task::spawn_blocking(move || quota.take(quota::bytes_below(&dir))).await);
    }

    /// Stores a piece, and returns the extent received: larger than the stored one if a limit was
    /// reached, and ending before the piece if there is a gap.
    pub(crate) async fn write(
        &self,
        attempt: AttemptId,
        token: Token,
        piece: Piece,
    ) -> io::Result<Extent> {
        let cap = self.attempt_bytes;
        let quota = self.quota.clone();
        let work = move |writing: &mut Writing| {
            writing.begin(token)?;
            let received = writing.take(&piece, cap, &quota)?;
            Ok((writing.extent(), received))
        };
        let (kept, received) = self.with(attempt, work).await?;
        self.announce(attempt, kept);
        Ok(received)
    }

    /// Records that an attempt has output, even if none has arrived yet.
    pub(crate) async fn expect(&self, attempt: AttemptId, token: Token) -> io::Result<()> {
        self.with(attempt, move |writing| writing.begin(token)).await
    }

    /// Returns the lease under which the log was started, or `None` if it was not started.
    pub(crate) async fn owner(&self, attempt: AttemptId) -> io::Result<Option<Token>> {
        self.with(attempt, |writing| Ok(writing.owner())).await
    }

    async fn with<T: Send + 'static>(
        &self,
        attempt: AttemptId,
        work: impl FnOnce(&mut Writing) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let known = self.lock_open().get(&attempt).map(Arc::clone);
        let paths = self.paths(attempt);
        let open = Arc::clone(&self.open);
        let blocking = move || {
            let writing = match known {
                Some(known) => known,
                None => remember(&open, attempt, Writing::open(paths)?),
            };
            let mut writing = writing.lock().unwrap_or_else(PoisonError::into_inner);
            writing.reopen_if_failed()?;
            let done = work(&mut writing);
            writing.note_failure(done.is_err());
            if writing.extent().is_sealed {
                open.lock().unwrap_or_else(PoisonError::into_inner).remove(&attempt);
            }
            done
        };
        tokio::task::spawn_blocking(blocking).await.map_err(io::Error::other)?
    }

    fn lock_open(&self) -> std::sync::MutexGuard<'_, BTreeMap<AttemptId, Arc<Mutex<Writing>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paths(&self, attempt: AttemptId) -> Paths {
        Paths::new(&self.dir.join(attempt.run.to_string()), attempt)
    }

    fn removed_mark(&self, run: RunId) -> PathBuf {
        self.dir.join(format!("{run}.removed"))
    }

    /// Returns the extent of an attempt's output, or `None` if there is none.
    pub(crate) async fn extent(&self, attempt: AttemptId) -> io::Result<Option<Extent>> {
        let paths = self.paths(attempt);
        // Check the seal first, so that everything written before it is counted.
        let is_sealed = fs::try_exists(&paths.sealed).await?;
        match fs::metadata(&paths.log).await {
            Ok(meta) => Ok(Some(Extent { len: meta.len(), is_sealed })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads up to 256 KiB from `offset` on; returns an empty result at the end.
    pub(crate) async fn read(&self, attempt: AttemptId, offset: u64) -> io::Result<Bytes> {
        let mut file = match fs::File::open(self.paths(attempt).log).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Bytes::new()),
            Err(error) => return Err(error),
        };
        file.seek(io::SeekFrom::Start(offset)).await?;
        let mut piece = Vec::new();
        file.take(PIECE_BYTES).read_to_end(&mut piece).await?;
        Ok(Bytes::from(piece))
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

    /// Returns whether the output of a run was removed to free space.
    pub(crate) async fn was_removed(&self, run: RunId) -> bool {
        fs::try_exists(self.removed_mark(run)).await.unwrap_or(false)
    }

    /// Returns whether little space is left, so that old output should be removed.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.quota.is_nearly_full()
    }

    /// Removes the output of a run that is otherwise kept; returns whether there was any.
    pub(crate) async fn remove_output(&self, run: RunId) -> io::Result<bool> {
        if !fs::try_exists(self.dir.join(run.to_string())).await? {
            return Ok(false);
        }
        fs::write(self.removed_mark(run), b"").await?;
        self.remove(run).await?;
        Ok(true)
    }

    /// Removes all output of a removed run.
    pub(crate) async fn forget(&self, run: RunId) -> io::Result<()> {
        self.remove(run).await?;
        match fs::remove_file(self.removed_mark(run)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    async fn remove(&self, run: RunId) -> io::Result<()> {
        self.lock_open().retain(|attempt, _| attempt.run != run);
        let (dir, quota) = (self.dir.join(run.to_string()), self.quota.clone());
        let blocking = move || {
            let n_bytes = quota::bytes_below(&dir);
            match std::fs::remove_dir_all(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => {
                    quota.release(n_bytes);
                    Ok(())
                }
            }
        };
        tokio::task::spawn_blocking(blocking).await.map_err(io::Error::other)?
    }
}

/// If two streams of a worker open the same attempt concurrently, the first one's log is used.
fn remember(
    open: &Mutex<BTreeMap<AttemptId, Arc<Mutex<Writing>>>>,
    attempt: AttemptId,
    writing: Writing,
) -> Arc<Mutex<Writing>> {
    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
    if open.len() >= OPEN_MAX {
        open.retain(|_, writing| Arc::strong_count(writing) > 1);
    }
    Arc::clone(open.entry(attempt).or_insert_with(|| Arc::new(Mutex::new(writing))))
}

#[cfg(test)]
mod tests;
