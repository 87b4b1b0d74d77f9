//! Code shared by the two in-process stores: the check of an append, and the leases.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kahn_core::log::{Append, Head, Reply, Term};
use kahn_model::Partition;
use tokio::time::Instant;

use crate::error::StoreError;
use crate::lease::{Claim, LEASE_TTL, Owner};
use crate::record::Position;
use crate::store::{Batch, ClusterMeta};

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

    pub(crate) fn position(&self) -> Position {
        Position { head: self.head, epoch: self.term.map_or(0, |term| term.epoch) }
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
pub(crate) struct Leases(Mutex<Vec<Option<Lease>>>);

#[derive(Clone, Debug)]
struct Lease {
    owner: Owner,
    until: Instant,
}

impl Leases {
    pub(crate) fn new(meta: ClusterMeta) -> Self {
        Self(Mutex::new(vec![None; usize::from(meta.partitions)]))
    }

    /// Takes the lease if it is free, expired, already the owner's, or if `claim` permits it.
    pub(crate) fn take(
        &self,
        partition: Partition,
        owner: &Owner,
        claim: Claim,
    ) -> Result<(), StoreError> {
        let mut slots = self.lock();
        let slot = &mut slots[usize::from(partition.0)];
        if let Some(Lease { owner: holder, until }) = slot
            && holder.nonce != owner.nonce
            && !claim.replaces(holder.nonce)
            && Instant::now() < *until
        {
            return Err(StoreError::Held { partition, holder: holder.clone() });
        }
        *slot = Some(Lease { owner: owner.clone(), until: Instant::now() + LEASE_TTL });
        Ok(())
    }

    /// Extends the lease of the owner of the current term.
    pub(crate) fn extend(&self, partition: Partition, nonce: u64) {
        let mut slots = self.lock();
        let slot = &mut slots[usize::from(partition.0)];
        let until = Instant::now() + LEASE_TTL;
        match slot {
            Some(lease) if lease.owner.nonce == nonce => lease.until = until,
            _ => *slot = Some(Lease { owner: Owner::without_address(nonce), until }),
        }
    }

    pub(crate) fn drop_if_held(&self, partition: Partition, nonce: u64) {
        let mut slots = self.lock();
        let slot = &mut slots[usize::from(partition.0)];
        if slot.as_ref().is_some_and(|lease| lease.owner.nonce == nonce) {
            *slot = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Lease>>> {
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
        let take = |nonce| leases.take(Partition(0), &Owner::without_address(nonce), Claim::IfFree);
        take(1).unwrap();
        let held = take(2);
        assert!(matches!(held, Err(StoreError::Held { holder: Owner { nonce: 1, .. }, .. })));
        tokio::time::advance(LEASE_TTL).await;
        take(2).unwrap();
        leases.drop_if_held(Partition(0), 1);
        assert!(take(3).is_err());
        leases.extend(Partition(0), 2);
        tokio::time::advance(LEASE_TTL / 2).await;
        assert!(take(3).is_err());
    }
}
