//! Takes part in the election of the leader.
//!
//! The owner of the first partition is the leader, and takes the others by force: their owner can
//! only be an earlier leader. A coordinator that is not the leader follows the logs and tries again
//! and again to acquire the first partition, which it does as soon as the leader has released it or
//! has not renewed its lease in time.
//!
//! The lease only decides who tries. What keeps an earlier leader from writing is the term.

use std::mem;
use std::sync::Arc;

use kahn_core::Settings;
use kahn_model::Partition;
use kahn_store::{Acquired, Claim, LogStore, Owner, StoreError};
use tokio::time::Instant;

use crate::replica::{Recovered, RecoveryError, Replica};

/// The partition whose owner is the leader.
pub(crate) const FIRST: Partition = Partition(0);

/// The result of trying to become the leader.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// This coordinator is the leader.
    Elected {
        /// The state.
        recovered: Box<Recovered>,
        /// When the lease was requested.
        asked_at: Instant,
    },
    /// Another coordinator is the leader.
    Led(Owner),
    /// It is not known yet whether there is a leader.
    Undecided,
}

/// A coordinator that is not the leader.
#[derive(Debug)]
pub(crate) struct Candidate {
    store: Arc<dyn LogStore>,
    settings: Settings,
    owner: Owner,
    claim: Claim,
    replica: Replica,
    outage: Outage,
}

/// Whether the store can be reached, as this candidate sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    /// It could always be reached.
    None,
    /// It cannot be reached.
    Present,
    /// It can be reached again since then.
    OverSince(Instant),
}

impl Candidate {
    /// Creates a candidate. `claim` applies to the first try only.
    pub(crate) fn new(
        store: Arc<dyn LogStore>,
        settings: Settings,
        owner: Owner,
        claim: Claim,
    ) -> Self {
        let replica = Replica::new(Arc::clone(&store), settings.clone());
        Self { store, settings, owner, claim, replica, outage: Outage::None }
    }

    /// Reads what was appended to the logs, and tries to become the leader.
    pub(crate) async fn campaign(&mut self) -> Result<Outcome, RecoveryError> {
        let outcome = self.try_campaign().await;
        self.outage = match (&outcome, self.outage) {
            (Err(RecoveryError::Store { .. }), _) => Outage::Present,
            (_, Outage::Present) => Outage::OverSince(Instant::now()),
            (_, outage) => outage,
        };
        outcome
    }

    async fn try_campaign(&mut self) -> Result<Outcome, RecoveryError> {
        // First, because a leader that cannot read the logs would be of no use.
        self.replica.follow().await?;
        if self.is_leader_excused() {
            return Ok(Outcome::Undecided);
        }
        let (asked_at, claim) = (Instant::now(), mem::replace(&mut self.claim, Claim::IfFree));
        let first = match self.acquire(FIRST, claim).await {
            Ok(acquired) => acquired,
            Err(StoreError::Held { holder, .. }) => return Ok(Outcome::Led(holder)),
            Err(source) => return Err(RecoveryError::Store { partition: FIRST, source }),
        };
        let mut owned = vec![first];
        for partition in (1..self.settings.partitions).map(Partition) {
            let failed = |source| RecoveryError::Store { partition, source };
            owned.push(self.acquire(partition, Claim::Force).await.map_err(failed)?);
        }
        let next = Replica::new(Arc::clone(&self.store), self.settings.clone());
        let recovered = mem::replace(&mut self.replica, next).finish(owned).await?;
        Ok(Outcome::Elected { recovered: Box::new(recovered), asked_at })
    }

    /// Returns whether the leader may have been unable to renew its lease because of an outage of the
    /// store. It gets the time of a lease to do so: if the store has lost the tail of the log, only
    /// the leader can restore it.
    fn is_leader_excused(&self) -> bool {
        match self.outage {
            Outage::None => false,
            Outage::Present => true,
            Outage::OverSince(at) => at.elapsed() < self.store.lease_ttl(),
        }
    }

    async fn acquire(&self, partition: Partition, claim: Claim) -> Result<Acquired, StoreError> {
        self.store.acquire(partition, &self.owner, claim).await
    }
}
