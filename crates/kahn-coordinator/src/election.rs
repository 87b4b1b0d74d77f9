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
use std::time::Duration;

use kahn_core::Settings;
use kahn_model::Partition;
use kahn_store::{Acquired, Claim, LogStore, Owner, StoreError};
use tokio::time::Instant;

use crate::replica::{Recovered, RecoveryError, Replica};

/// The partition whose owner is the leader.
pub(crate) const FIRST: Partition = Partition(0);

/// How long a leader may wait for a connection and a response before it notices that the store can be
/// reached again.
const REQUESTS_MAX: Duration = Duration::from_secs(3);
/// How often an outage may begin again before the leader is no longer left alone.
const RELAPSES_MAX: u32 = 3;

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
    outage: Option<Outage>,
    /// The outages that the store had counted when the last campaign ended.
    n_outages: u64,
}

/// An outage of the store, as this candidate saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outage {
    /// When the store could be reached again; `None` while it cannot.
    over_since: Option<Instant>,
    /// How often it could not be reached again after that.
    n_relapses: u32,
}

impl Outage {
    /// Returns the outage after the store was or was not reached. `excuse` is how long the leader
    /// is left alone after the end of an outage.
    fn next(current: Option<Self>, is_reached: bool, excuse: Duration) -> Option<Self> {
        match (current, is_reached) {
            (None, true) => None,
            (None, false) => Some(Self::default()),
            (Some(outage), true) => match outage.over_since {
                None => Some(Self { over_since: Some(Instant::now()), ..outage }),
                Some(since) => (since.elapsed() < excuse).then_some(outage),
            },
            (Some(outage), false) => {
                let n_relapses = outage.n_relapses + u32::from(outage.over_since.is_some());
                Some(Self { over_since: None, n_relapses })
            }
        }
    }
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
        let n_outages = store.n_outages();
        Self { store, settings, owner, claim, replica, outage: None, n_outages }
    }

    /// Reads what was appended to the logs, and tries to become the leader.
    pub(crate) async fn campaign(&mut self) -> Result<Outcome, RecoveryError> {
        let outcome = self.try_campaign().await;
        let is_failed = matches!(outcome, Err(RecoveryError::Store { .. }));
        let is_reached = !is_failed && !self.has_failed_meanwhile();
        self.n_outages = self.store.n_outages();
        self.outage = Outage::next(self.outage, is_reached, self.excuse());
        outcome
    }

    async fn try_campaign(&mut self) -> Result<Outcome, RecoveryError> {
        // First, because a leader that cannot read the logs would be of no use.
        self.replica.follow().await?;
        if self.is_leader_excused() || self.has_failed_meanwhile() {
            return Ok(Outcome::Undecided);
        }
        let (asked_at, claim) = (Instant::now(), mem::replace(&mut self.claim, Claim::IfFree));
        let first = match self.acquire(FIRST, claim).await {
            Ok(acquired) => acquired,
            Err(StoreError::Held { holder, .. }) => return Ok(Outcome::Led(holder)),
            Err(source) => return Err(RecoveryError::Store { partition: FIRST, source }),
        };
        let taken = self.take_over(first).await;
        if taken.is_err() {
            // Somebody else may have more luck. Otherwise the lease expires.
            drop(self.store.release(FIRST, first.term).await);
        }
        Ok(Outcome::Elected { recovered: Box::new(taken?), asked_at })
    }

    /// Acquires the other partitions, and completes the state.
    async fn take_over(&mut self, first: Acquired) -> Result<Recovered, RecoveryError> {
        let mut owned = vec![first];
        for partition in (1..self.settings.partitions).map(Partition) {
            let failed = |source| RecoveryError::Store { partition, source };
            owned.push(self.acquire(partition, Claim::Force).await.map_err(failed)?);
        }
        let next = Replica::new(Arc::clone(&self.store), self.settings.clone());
        mem::replace(&mut self.replica, next).finish(owned).await
    }

    /// Returns whether the leader may have been unable to renew its lease because of an outage of the
    /// store. It gets time to do so: if the store has lost the tail of the log, only the leader can
    /// restore it. If the store fails again and again, this ends after some times.
    fn is_leader_excused(&self) -> bool {
        self.outage.is_some_and(|outage| outage.n_relapses < RELAPSES_MAX)
    }

    /// Returns whether the store has failed since the last campaign, although requests that were
    /// repeated have succeeded.
    fn has_failed_meanwhile(&self) -> bool {
        self.store.n_outages() != self.n_outages
    }

    /// Returns the time that the leader needs to notice the end of an outage and to renew its lease.
    fn excuse(&self) -> Duration {
        let ttl = self.store.lease_ttl();
        ttl.max(ttl / 4 + REQUESTS_MAX)
    }

    async fn acquire(&self, partition: Partition, claim: Claim) -> Result<Acquired, StoreError> {
        self.store.acquire(partition, &self.owner, claim).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_leader_is_excused_for_a_while_after_an_outage_but_not_for_ever() {
        let excuse = Duration::from_secs(3);
        let next = |outage, is_reached| Outage::next(outage, is_reached, excuse);
        assert_eq!(next(None, true), None);
        let mut outage = next(None, false);
        for _ in 0..100 {
            outage = next(outage, false);
        }
        assert_eq!(outage.unwrap().n_relapses, 0);
        outage = next(outage, true);
        tokio::time::advance(excuse / 2).await;
        outage = next(outage, true);
        assert!(outage.is_some());
        outage = next(next(outage, false), true);
        assert_eq!(outage.unwrap().n_relapses, 1);
        tokio::time::advance(excuse).await;
        assert_eq!(next(outage, true), None);
    }
}
