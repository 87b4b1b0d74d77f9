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
    /// The outages that the store had counted when the last campaign had read the logs.
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

/// What a campaign has seen of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It answered.
    Reached,
    /// It answered in the end, but there was an outage.
    Disturbed,
    /// It did not answer.
    Failed,
}

impl Outage {
    /// Returns the outage after a campaign. `excuse` is how long the leader is left alone after the
    /// end of an outage.
    fn next(current: Option<Self>, seen: Seen, excuse: Duration) -> Option<Self> {
        let n_relapses = |outage: Self| outage.n_relapses + u32::from(outage.over_since.is_some());
        match (current, seen) {
            (None, Seen::Reached) => None,
            (Some(outage), Seen::Reached) => match outage.over_since {
                None => Some(Self { over_since: Some(Instant::now()), ..outage }),
                Some(since) => (since.elapsed() < excuse).then_some(outage),
            },
            (current, Seen::Disturbed) => Some(Self {
                over_since: Some(Instant::now()),
                n_relapses: current.map_or(0, n_relapses),
            }),
            (current, Seen::Failed) => {
                Some(Self { over_since: None, n_relapses: current.map_or(0, n_relapses) })
            }
        }
    }
}

impl Candidate {
    /// Creates a candidate. `claim` applies until the store has answered for the first time.
    pub(crate) fn new(
        store: Arc<dyn LogStore>,
        settings: Settings,
        owner: Owner,
        claim: Claim,
    ) -> Self {
        let replica = Replica::new(Arc::clone(&store), settings.clone());
        // Those since the store was opened count.
        let n_outages = 0;
        Self { store, settings, owner, claim, replica, outage: None, n_outages }
    }

    /// Reads what was appended to the logs, and tries to become the leader.
    pub(crate) async fn campaign(&mut self) -> Result<Outcome, RecoveryError> {
        // First, because a leader that cannot read the logs would be of no use.
        let followed = self.replica.follow().await;
        // What happens to the store from now on is noticed by the claim.
        let n_outages = self.store.n_outages();
        self.note(match &followed {
            Err(RecoveryError::Store { .. }) => Seen::Failed,
            _ if n_outages != self.n_outages => Seen::Disturbed,
            _ => Seen::Reached,
        });
        self.n_outages = n_outages;
        followed?;
        if self.is_leader_excused() {
            return Ok(Outcome::Undecided);
        }
        let outcome = self.try_to_lead().await;
        if matches!(outcome, Err(RecoveryError::Store { .. })) {
            self.note(Seen::Failed);
        }
        outcome
    }

    fn note(&mut self, seen: Seen) {
        self.outage = Outage::next(self.outage, seen, self.excuse());
    }

    async fn try_to_lead(&mut self) -> Result<Outcome, RecoveryError> {
        let asked_at = Instant::now();
        let n_outages = self.n_outages;
        let claim = match self.claim {
            Claim::Succeeding(earlier) => Claim::Undisturbed { n_outages, earlier: Some(earlier) },
            Claim::IfFree => Claim::Undisturbed { n_outages, earlier: None },
            other => other,
        };
        let first = match self.acquire(FIRST, claim).await {
            Ok(acquired) => acquired,
            Err(StoreError::Held { holder, .. }) => {
                self.claim = Claim::IfFree;
                return Ok(Outcome::Led(holder));
            }
            // The next campaign will see that.
            Err(StoreError::Outage) => return Ok(Outcome::Undecided),
            Err(source) => return Err(RecoveryError::Store { partition: FIRST, source }),
        };
        self.claim = Claim::IfFree;
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
        let next = |outage, seen| Outage::next(outage, seen, excuse);
        assert_eq!(next(None, Seen::Reached), None);
        let mut outage = next(None, Seen::Failed);
        for _ in 0..100 {
            outage = next(outage, Seen::Failed);
        }
        assert_eq!(outage.unwrap().n_relapses, 0);
        outage = next(outage, Seen::Reached);
        tokio::time::advance(excuse / 2).await;
        outage = next(outage, Seen::Reached);
        assert!(outage.is_some());
        outage = next(next(outage, Seen::Failed), Seen::Reached);
        assert_eq!(outage.unwrap().n_relapses, 1);
        tokio::time::advance(excuse).await;
        assert_eq!(next(outage, Seen::Reached), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_disturbed_all_the_time_excuses_a_leader_for_some_time_only() {
        let excuse = Duration::from_secs(3);
        let mut outage = Outage::next(None, Seen::Disturbed, excuse);
        for n in 0..RELAPSES_MAX {
            assert_eq!(outage.unwrap().n_relapses, n);
            outage = Outage::next(outage, Seen::Disturbed, excuse);
        }
        assert_eq!(outage.unwrap().n_relapses, RELAPSES_MAX);
    }
}
