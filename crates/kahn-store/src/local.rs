//! Code shared by the two in-process stores: the check of an append, and the leases.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kahn_core::log::{Append, Head, Reply, Term};
use kahn_model::Partition;
use tokio::time::Instant;

use crate::error::StoreError;
use crate::store::{Batch, ClusterMeta, LEASE_TTL};

/// The state of one log: the current term and the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogState {
    /// The current term; `None` before the first.
    pub(crate) term: Option<Term>,
    pub(crate) head: Head,
}

impl LogState {
    /// Judges an append with one comparison, which covers ordering, repetition and fencing.
    pub(crate) fn judge(&self, term: Term, append: &Append<Batch>) -> Reply {
        if self.term != Some(term) {
            return Reply::Fenced;
        }
        if self.head == append.prev {
            return Reply::Applied;
        }
        if self.head == append.next { Reply::Duplicate } else { Reply::Behind(self.head) }
    }

    pub(crate) fn begin(&mut self, nonce: u64) -> Term {
        let term = Term { epoch: self.term.map_or(0, |term| term.epoch) + 1, nonce };
        self.term = Some(term);
        term
    }

    pub(crate) fn check(&self, partition: Partition, term: Term) -> Result<(), StoreError> {
        if self.term == Some(term) {
            return Ok(());
        }
        Err(StoreError::Fenced { partition, term })
    }
}

/// The owners of all partitions within this process.
#[derive(Debug)]
pub(crate) struct Leases(Mutex<Vec<Option<(u64, Instant)>>>);

impl Leases {
    pub(crate) fn new(meta: ClusterMeta) -> Self {
        Self(Mutex::new(vec![None; usize::from(meta.partitions)]))
    }

    /// Takes the lease if it is free, expired, already ours, or if `steal` is set.
    pub(crate) fn take(
        &self,
        partition: Partition,
        nonce: u64,
        steal: bool,
    ) -> Result<(), StoreError> {
        let mut slots = self.lock();
        let slot = &mut slots[usize::from(partition.0)];
        match *slot {
            Some((holder, until)) if holder != nonce && !steal && Instant::now() < until => {
                Err(StoreError::Held { partition, holder })
            }
            _ => {
                *slot = Some((nonce, Instant::now() + LEASE_TTL));
                Ok(())
            }
        }
    }

    pub(crate) fn drop_if_held(&self, partition: Partition, nonce: u64) {
        let mut slots = self.lock();
        let slot = &mut slots[usize::from(partition.0)];
        if slot.is_some_and(|(holder, _)| holder == nonce) {
            *slot = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<(u64, Instant)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ClusterId;

    #[tokio::test(start_paused = true)]
    async fn a_lease_expires_when_it_is_not_renewed() {
        let leases = Leases::new(ClusterMeta { id: ClusterId(1), partitions: 1 });
        leases.take(Partition(0), 1, false).unwrap();
        let held = leases.take(Partition(0), 2, false);
        assert!(matches!(held, Err(StoreError::Held { holder: 1, .. })));
        tokio::time::advance(LEASE_TTL).await;
        leases.take(Partition(0), 2, false).unwrap();
        leases.drop_if_held(Partition(0), 1);
        assert!(leases.take(Partition(0), 3, false).is_err());
    }
}
