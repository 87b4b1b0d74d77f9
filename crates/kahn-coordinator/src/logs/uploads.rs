//! Uploads output to the blob store, one task for each attempt with output that is not there yet.
//!
//! The local file of an attempt is removed as soon as the blob store has everything. So exactly the
//! attempts that are known here have a local file, and everything else is in the blob store only.

mod doubt;
mod task;
mod trouble;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kahn_model::{AttemptId, RunId, Token};
use kahn_runtime::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Semaphore, watch};

use self::doubt::Doubt;
use self::task::Uploading;
use self::trouble::Trouble;
use super::archive::Archive;
use super::objects::StoredLog;
use super::{Extent, Logs};

/// Maximum number of bytes that concurrent uploads hold in memory.
const CONCURRENT_BYTES: u32 = 64 << 20;
/// The number of bytes as which a smaller upload counts, so that there are no more than 256.
const COUNTED_BYTES_MIN: u32 = CONCURRENT_BYTES / 256;

/// How often an upload that must wait checks whether its output still exists.
const ALLOWED_EVERY: Duration = Duration::from_secs(1);

/// An output that has a local file.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    token: Token,
    /// The extent of the output as received.
    extent: watch::Sender<Extent>,
    /// Whether the complete output is in the blob store.
    is_stored: watch::Sender<bool>,
    /// The offset of the first byte in the local file.
    base: Arc<AtomicU64>,
    /// Whether another coordinator may have uploaded more.
    doubt: Arc<Doubt>,
}

/// Metrics of the uploads.
#[derive(Clone, Debug)]
pub(crate) struct UploadStats {
    pending: Gauge,
    bytes: Counter,
    failures: Counter,
}

impl UploadStats {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let pending = "Attempts with output that the blob store does not have yet";
        let failures = "Failed attempts to write output to the blob store, or to look for it";
        Self {
            pending: metrics.gauge("log_uploads_pending", pending),
            bytes: metrics.counter("log_upload_bytes", "Bytes of output written to the blob store"),
            failures: metrics.counter("log_upload_failures", failures),
        }
    }
}

/// All uploads of a coordinator. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Uploads {
    pub archive: Archive,
    active: Arc<Mutex<BTreeMap<AttemptId, Upload>>>,
    permits: Arc<Semaphore>,
    /// Whether the blob store is reserved for this cluster.
    is_allowed: watch::Sender<bool>,
    trouble: Arc<Trouble>,
    stats: UploadStats,
}

impl Uploads {
    pub(super) fn new(archive: Archive, stats: UploadStats) -> Self {
        Self {
            archive,
            active: Arc::default(),
            permits: Arc::new(Semaphore::new(to_permits(CONCURRENT_BYTES))),
            is_allowed: watch::Sender::new(false),
            trouble: Arc::default(),
            stats,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<AttemptId, Upload>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the uploads begin.
    pub(super) fn allow(&self) {
        self.is_allowed.send_replace(true);
    }

    /// Returns whether the blob store may be written to.
    pub(super) fn is_allowed(&self) -> bool {
        *self.is_allowed.borrow()
    }

    /// Waits until the blob store may be written to, for a while at most.
    async fn wait_until_allowed(&self) {
        let mut is_allowed = self.is_allowed.subscribe();
        // The sender is `self`.
        drop(tokio::time::timeout(ALLOWED_EVERY, is_allowed.wait_for(|yes| *yes)).await);
    }

    /// Returns what the blob store has of an attempt. Fails at once if the store has just failed.
    pub(super) async fn find(&self, attempt: AttemptId) -> io::Result<Arc<StoredLog>> {
        if let Some(error) = self.trouble.recent() {
            return Err(error);
        }
        let found = self.archive.find(attempt).await;
        match &found {
            Ok(_) => self.trouble.end(),
            Err(error) => self.trouble.begin(error),
        };
        found
    }

    /// Returns the offset of the first byte in the local file of an attempt, or `None` if there is
    /// no such file.
    pub(super) fn local_base(&self, attempt: AttemptId) -> Option<u64> {
        self.lock().get(&attempt).map(|upload| upload.base.load(Ordering::Acquire))
    }

    /// Returns whether an attempt has a local file that is needed. One of which the blob store has
    /// everything may be gone at any moment.
    pub(super) fn needs_local(&self, attempt: AttemptId) -> bool {
        self.lock().get(&attempt).is_some_and(|upload| !*upload.is_stored.borrow())
    }

    /// Returns whether another coordinator may have uploaded more of an attempt than there is in its
    /// local file.
    pub(super) fn is_doubtful(&self, attempt: AttemptId) -> bool {
        self.lock().get(&attempt).is_some_and(|upload| upload.doubt.is_raised())
    }

    /// Lets all uploads look for what other coordinators have uploaded in the meantime.
    pub(super) fn doubt_all(&self) {
        for upload in self.lock().values() {
            upload.doubt.raise();
            upload.extent.send_modify(|_| {});
        }
    }

    /// Ends the uploads of a run.
    pub(super) fn forget(&self, run: RunId) {
        let mut active = self.lock();
        active.retain(|attempt, _| attempt.run != run);
        self.count(active.len());
    }

    /// Takes note of received output, and starts to upload it. Returns a receiver that becomes true
    /// when the complete output is in the blob store.
    pub(super) fn announce(
        &self,
        logs: &Logs,
        attempt: AttemptId,
        local: Local,
    ) -> watch::Receiver<bool> {
        let mut active = self.lock();
        if let Some(upload) = active.get(&attempt) {
            upload.base.store(local.base, Ordering::Release);
            upload.extent.send_replace(local.extent);
            return upload.is_stored.subscribe();
        }
        let upload = Upload {
            token: local.token,
            extent: watch::Sender::new(local.extent),
            is_stored: watch::Sender::new(false),
            base: Arc::new(AtomicU64::new(local.base)),
            doubt: Arc::new(Doubt::new(local.is_doubtful)),
        };
        let stored = upload.is_stored.subscribe();
        let uploading = Uploading::new(self.clone(), logs.clone(), attempt, &upload, local.base);
        active.insert(attempt, upload);
        self.count(active.len());
        drop(active);
        tokio::spawn(uploading.run());
        stored
    }

    /// Removes an upload that has nothing left to do, unless more output has come.
    fn remove_if_unchanged(&self, attempt: AttemptId, extent: &watch::Receiver<Extent>) -> bool {
        let mut active = self.lock();
        if extent.has_changed().unwrap_or(false) {
            return false;
        }
        // A later upload of the same attempt has another channel.
        if active.get(&attempt).is_some_and(|upload| upload.extent.subscribe().same_channel(extent))
        {
            active.remove(&attempt);
        }
        self.count(active.len());
        true
    }

    fn count(&self, n: usize) {
        self.stats.pending.set(i64::try_from(n).unwrap_or(i64::MAX));
    }
}

fn to_permits(n: u32) -> usize {
    usize::try_from(n).unwrap_or(Semaphore::MAX_PERMITS)
}

/// The local part of an output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local {
    pub token: Token,
    pub extent: Extent,
    /// The offset of the first byte in the local file.
    pub base: u64,
    /// Whether another coordinator may have uploaded more.
    pub is_doubtful: bool,
}
