//! Counts outages, for those who have to know of them although their requests were repeated.

use std::sync::atomic::{AtomicU64, Ordering};

/// The number of times that a request failed or had to be repeated, or that the server of a slot
/// changed. One outage may count several times.
#[derive(Debug, Default)]
pub(super) struct Outages(AtomicU64);

impl Outages {
    /// Returns the number.
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Notes one more.
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
