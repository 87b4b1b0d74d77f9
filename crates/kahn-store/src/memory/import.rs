//! Fills a store in memory.

use async_trait::async_trait;
use kahn_core::log::Term;
use kahn_model::Partition;

use super::{MemoryStore, PartitionData};
use crate::error::StoreError;
use crate::import::{EPOCHS_LEFT, Import};
use crate::record::{Position, Record};
use crate::store::{ClusterMeta, LogStore as _};

/// A new store in memory that is being filled.
#[derive(Clone, Debug)]
pub struct MemoryImport(MemoryStore);

impl MemoryImport {
    /// Begins with an empty store.
    #[must_use]
    pub fn new(meta: ClusterMeta) -> Self {
        Self(MemoryStore::new(meta))
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> MemoryStore {
        self.0.clone()
    }
}

#[async_trait]
impl Import for MemoryImport {
    fn meta(&self) -> ClusterMeta {
        self.0.meta()
    }

    async fn write(&self, partition: Partition, records: Vec<Record>) -> Result<(), StoreError> {
        let mut data = self.0.0.partition(partition)?;
        for record in records {
            data.take(record);
        }
        Ok(())
    }

    async fn complete(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl PartitionData {
    fn take(&mut self, record: Record) {
        match record {
            Record::Blob { name, bytes } => {
                self.blobs.insert(name, bytes);
            }
            Record::Checkpoint { head, manifest } => {
                self.checkpoint = Some((head, manifest));
                self.state.head = head;
            }
            Record::Entry { head, payload } => {
                self.log.push_back((head, payload));
                self.state.head = head;
            }
            Record::End(Position { head, epoch }) => {
                self.state.term = Some(Term { epoch: epoch.saturating_add(EPOCHS_LEFT), nonce: 0 });
                self.state.head = head;
            }
        }
    }
}
