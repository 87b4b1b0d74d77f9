//! Whether another coordinator may have uploaded more of an output than this one knows.

use std::sync::atomic::{AtomicU64, Ordering};

/// A doubt that can be raised again while it is being settled.
#[derive(Debug)]
pub(super) struct Doubt {
    n_raised: AtomicU64,
    n_settled: AtomicU64,
}

impl Doubt {
    pub(super) fn new(is_raised: bool) -> Self {
        Self { n_raised: AtomicU64::new(is_raised.into()), n_settled: AtomicU64::new(0) }
    }

    pub(super) fn raise(&self) {
        self.n_raised.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn is_raised(&self) -> bool {
        self.pending().is_some()
    }

    /// Returns what to pass to [`Self::settle`], or `None` if there is no doubt.
    pub(super) fn pending(&self) -> Option<u64> {
        let n_raised = self.n_raised.load(Ordering::Acquire);
        (self.n_settled.load(Ordering::Acquire) < n_raised).then_some(n_raised)
    }

    /// Ends the doubt, unless it was raised again since it was `pending`.
    pub(super) fn settle(&self, pending: u64) {
        self.n_settled.fetch_max(pending, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_that_is_raised_while_it_is_being_settled_remains() {
        let doubt = Doubt::new(true);
        let pending = doubt.pending().unwrap();
        doubt.raise();
        doubt.settle(pending);
        assert!(doubt.is_raised());
        doubt.settle(doubt.pending().unwrap());
        assert!(!doubt.is_raised());
    }
}
