//! Fills an embedded store.
//!
//! Until it is complete, the store has a format that no version opens.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use kahn_core::log::Term;
use kahn_model::Partition;
use redb::{Database, WriteTransaction};

use super::{EmbeddedStore, open_database, tables};
use crate::error::StoreError;
use crate::import::{EPOCHS_LEFT, Import};
use crate::local::LogState;
use crate::record::{Position, Record};
use crate::store::ClusterMeta;

/// An embedded store that is being filled. Everything that was confirmed is on the disk.
pub struct EmbeddedImport {
    meta: ClusterMeta,
    database: Arc<Database>,
}

impl fmt::Debug for EmbeddedImport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedImport").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Begins to fill the store in `dir`, which is created if it does not exist. Blocks.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Occupied`] if there is a cluster, and [`StoreError::InUse`] if another
    /// process has the store open.
    pub fn import(dir: &Path, meta: ClusterMeta) -> Result<EmbeddedImport, StoreError> {
        let database = Arc::new(open_database(dir, true)?);
        commit(&database, |tx| tables::begin_import(tx, meta))?;
        Ok(EmbeddedImport { meta, database })
    }
}

fn commit<T>(
    database: &Database,
    work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let tx = database.begin_write().map_err(StoreError::embedded)?;
    let done = work(&tx)?;
    tx.commit().map_err(StoreError::embedded)?;
    Ok(done)
}

impl EmbeddedImport {
    async fn run(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let database = Arc::clone(&self.database);
        let task = tokio::task::spawn_blocking(move || commit(&database, work));
        task.await.map_err(|_| StoreError::Closed)?
    }
}

#[async_trait]
impl Import for EmbeddedImport {
    fn meta(&self) -> ClusterMeta {
        self.meta
    }

    async fn write(&self, partition: Partition, records: Vec<Record>) -> Result<(), StoreError> {
        self.meta.check(partition)?;
        self.run(move |tx| records.iter().try_for_each(|record| put(tx, partition, record))).await
    }

    async fn complete(&self) -> Result<(), StoreError> {
        let meta = self.meta;
        self.run(move |tx| tables::complete_import(tx, meta)).await
    }
}

fn put(tx: &WriteTransaction, partition: Partition, record: &Record) -> Result<(), StoreError> {
    match record {
        Record::Blob { name, bytes } => tables::put_blob(tx, partition, name, bytes),
        Record::Checkpoint { head, manifest } => {
            tables::set_checkpoint(tx, partition, *head, manifest)
        }
        Record::Entry { head, payload } => tables::put_entry(tx, partition, *head, payload),
        Record::End(Position { head, epoch }) => {
            let term = Some(Term { epoch: epoch.saturating_add(EPOCHS_LEFT), nonce: 0 });
            tables::set_state(tx, partition, &LogState { term, head: *head })
        }
    }
}
