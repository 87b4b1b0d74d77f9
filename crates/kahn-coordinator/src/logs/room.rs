//! How much disk all logs take together.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is taken of a fixed amount. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Room {
    max: u64,
    used: Arc<AtomicU64>,
}

impl Room {
    pub(super) fn new(max: u64) -> Self {
        Self { max, used: Arc::default() }
    }

    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// Bytes that may still be taken. Several that ask at one time may each take them, so the
    /// whole can be passed by a few pieces.
    pub(super) fn left(&self) -> u64 {
        self.max.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    pub(super) fn is_tight(&self) -> bool {
        self.left() < self.max / 10
    }

    pub(super) fn take(&self, n_bytes: u64) {
        self.used.fetch_add(n_bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, n_bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(n_bytes));
        // It never refuses.
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// The size of all files below a directory; what cannot be read counts nothing.
pub(super) fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}
