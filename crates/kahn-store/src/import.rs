//! Writes the state of a cluster into an empty store.

use std::fmt;

use async_trait::async_trait;
use kahn_core::log::Term;
use kahn_model::Partition;

use crate::error::StoreError;
use crate::record::Record;
use crate::store::ClusterMeta;

/// How many epochs are left to the cluster from which the records are. Should it go on after all,
/// it begins no term of an epoch in which this one has begun a term.
pub(crate) const EPOCHS_LEFT: u64 = 1 << 20;

/// Returns whether a cluster with this term was restored, now or earlier. It began elsewhere, with
/// what is not in its store.
#[must_use]
pub fn is_restored(term: Term) -> bool {
    EPOCHS_LEFT < term.epoch
}

/// An empty store that is being filled with a cluster.
///
/// It cannot be opened before [`complete`](Self::complete), and says so. If that is never reached, a
/// new import into the same store begins with an empty one again.
#[async_trait]
pub trait Import: Send + Sync + fmt::Debug {
    /// Returns the properties of the cluster that the store will have.
    fn meta(&self) -> ClusterMeta;

    /// Writes the next records of a partition, in their order. Partitions are independent of each
    /// other.
    ///
    /// # Errors
    ///
    /// Returns an error if the store did not confirm them; they may have been written. Returns
    /// [`StoreError::ImportReplaced`] if another import into the store has begun.
    async fn write(&self, partition: Partition, records: Vec<Record>) -> Result<(), StoreError>;

    /// Makes the store usable. All partitions must have been written up to their ends.
    ///
    /// # Errors
    ///
    /// Returns an error if the store did not confirm it, which may then be usable or not, or
    /// [`StoreError::ImportReplaced`].
    async fn complete(&self) -> Result<(), StoreError>;
}
