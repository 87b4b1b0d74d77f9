//! The disk space used by all logs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A shared counter of used bytes with a limit.
#[derive(Clone, Debug)]
pub(super) struct StorageQuota {
    max: u64,
    used: Arc<AtomicU64>,
}

impl StorageQuota {
    pub(super) fn new(max: u64) -> Self {
        Self { max, used: Arc::default() }
    }

    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// Returns the number of bytes left. Concurrent callers may each use them, so the limit can be
    /// exceeded by a few pieces.
    pub(super) fn left(&self) -> u64 {
        self.max.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    pub(super) fn is_nearly_full(&self) -> bool {
        self.left() < self.max / 10
    }

    pub(super) fn take(&self, n_bytes: u64) {
        self.used.fetch_add(n_bytes, Ordering::Relaxed);
    }

    pub(super) fn release(&self, n_bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(n_bytes));
        // The update never fails.
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// Returns the total size of all files below a directory; unreadable ones count as empty.
pub(super) fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}
