//! A store in one file, for one process. It is used by `kahn run` and by a single coordinator.
//!
//! One thread performs all writes and commits the pending ones in one transaction. Reads use a
//! snapshot and run concurrently. The file is locked, so no other process can open it.

mod backend;
mod import;
mod pipe;
mod tables;
mod writer;

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kahn_core::log::{Head, Term};
use kahn_model::Partition;
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, WriteTransaction};

use crate::durability::Durability;
use crate::embedded::pipe::EmbeddedPipe;
use crate::embedded::writer::Writer;
use crate::error::StoreError;
use crate::lease::{Claim, LEASE_TTL, Owner};
use crate::local::Leases;
use crate::record::Position;
use crate::store::{Acquired, AppendPipe, ClusterMeta, LogStore};

pub use import::EmbeddedImport;

/// The file name in a store's directory.
const FILE: &str = "kahn.redb";

/// The size of the page cache. The coordinator holds the live state; the cache only saves reads of
/// the tree.
const CACHE_BYTES: usize = 64 << 20;

/// A store in its own directory; clones share it.
///
/// The store is closed and unlocked when the last clone and the last pipe are dropped.
#[derive(Clone)]
pub struct EmbeddedStore(Arc<Inner>);

struct Inner {
    meta: ClusterMeta,
    durability: Durability,
    leases: Leases,
    database: Arc<Database>,
    writer: Writer,
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (meta, durability) = (self.0.meta, self.0.durability);
        f.debug_struct("EmbeddedStore").field("meta", &meta).field("level", &durability).finish()
    }
}

impl EmbeddedStore {
    /// Opens the store in `dir`, creating both if they do not exist.
    ///
    /// `durability` is either [`Durability::Process`], where a commit reaches the page cache of the
    /// operating system, or [`Durability::Disk`], where it reaches the disk. After a power loss a
    /// store of the first kind may be damaged; opening it then fails.
    ///
    /// Blocks until recovery has finished; call it before serving.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::InUse`] if another process has the store open,
    /// [`StoreError::PartitionCount`] if it was created with another number of partitions, and
    /// [`StoreError::BadConfig`] for any other durability.
    pub fn open(
        dir: &Path,
        wanted: ClusterMeta,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        let syncs = match durability {
            Durability::Process => false,
            Durability::Disk => true,
            Durability::Ephemeral | Durability::Replicated => {
                let text = format!("an embedded store cannot be {durability}: process or disk");
                return Err(StoreError::BadConfig(text));
            }
        };
        let database = Arc::new(open_database(dir, syncs)?);
        let meta = tables::create(&database, wanted)?.admit(wanted)?;
        let writer = Writer::spawn(Arc::clone(&database))
            .map_err(|e| StoreError::io("start the writer of the embedded store", e))?;
        let leases = Leases::new(meta);
        Ok(Self(Arc::new(Inner { meta, durability, leases, database, writer })))
    }

    async fn write<T: Send + 'static>(
        &self,
        partition: Partition,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.0.meta.check(partition)?;
        self.0.writer.run(work).await
    }

    async fn view<T: Send + 'static>(
        &self,
        partition: Partition,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.0.meta.check(partition)?;
        let database = Arc::clone(&self.0.database);
        let task = tokio::task::spawn_blocking(move || {
            work(&database.begin_read().map_err(StoreError::embedded)?)
        });
        task.await.map_err(|_| StoreError::Closed)?
    }
}

fn open_database(dir: &Path, syncs: bool) -> Result<Database, StoreError> {
    let shown = dir.display();
    fs::create_dir_all(dir).map_err(|e| StoreError::io(format!("create {shown}"), e))?;
    let path = dir.join(FILE);
    let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|e| StoreError::io(format!("open {}", path.display()), e))?;
    let backend = backend::Backend::new(file, syncs).map_err(StoreError::embedded)?;
    let opened = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend);
    opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(dir.to_owned()),
        other => StoreError::embedded(other),
    })
}

#[async_trait]
impl LogStore for EmbeddedStore {
    fn durability(&self) -> Durability {
        self.0.durability
    }

    fn meta(&self) -> ClusterMeta {
        self.0.meta
    }

    fn lease_ttl(&self) -> Duration {
        LEASE_TTL
    }

    async fn acquire(
        &self,
        partition: Partition,
        owner: &Owner,
        claim: Claim,
    ) -> Result<Acquired, StoreError> {
        self.0.meta.check(partition)?;
        self.0.leases.take(partition, owner, claim)?;
        let nonce = owner.nonce;
        self.write(partition, move |tx| {
            let mut state = tables::state(tx, partition)?;
            let term = state.begin(nonce);
            tables::set_state(tx, partition, &state)?;
            Ok(Acquired { term, head: state.head })
        })
        .await
    }

    async fn renew(&self, partition: Partition, term: Term) -> Result<Head, StoreError> {
        let state = self.view(partition, move |tx| tables::state(tx, partition)).await?;
        state.check(partition, term)?;
        self.0.leases.extend(partition, term.nonce);
        Ok(state.head)
    }

    async fn release(&self, partition: Partition, term: Term) -> Result<(), StoreError> {
        let state = self.view(partition, move |tx| tables::state(tx, partition)).await?;
        if state.term == Some(term) {
            self.0.leases.drop_if_held(partition, term.nonce);
        }
        Ok(())
    }

    async fn position(&self, partition: Partition) -> Result<Position, StoreError> {
        let state = self.view(partition, move |tx| tables::state(tx, partition)).await?;
        Ok(state.position())
    }

    fn pipe(&self, partition: Partition, term: Term) -> Box<dyn AppendPipe> {
        Box::new(EmbeddedPipe::new(self.clone(), partition, term))
    }

    async fn read(
        &self,
        partition: Partition,
        after_seq: u64,
        bytes_max: usize,
    ) -> Result<Vec<(Head, Bytes)>, StoreError> {
        self.view(partition, move |tx| tables::page(tx, partition, after_seq, bytes_max)).await
    }

    async fn put_blob(
        &self,
        partition: Partition,
        name: &str,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.write(partition, move |tx| tables::put_blob(tx, partition, &name, &bytes)).await
    }

    async fn get_blob(
        &self,
        partition: Partition,
        name: &str,
    ) -> Result<Option<Bytes>, StoreError> {
        let name = name.to_owned();
        self.view(partition, move |tx| tables::blob(tx, partition, &name)).await
    }

    async fn delete_blobs(
        &self,
        partition: Partition,
        term: Term,
        names: &[String],
    ) -> Result<(), StoreError> {
        let names = names.to_owned();
        self.write(partition, move |tx| {
            tables::state(tx, partition)?.check(partition, term)?;
            tables::delete_blobs(tx, partition, &names)
        })
        .await
    }

    async fn list_blobs(
        &self,
        partition: Partition,
        prefix: &str,
    ) -> Result<Vec<String>, StoreError> {
        let prefix = prefix.to_owned();
        self.view(partition, move |tx| tables::blob_names(tx, partition, &prefix)).await
    }

    async fn checkpoint(
        &self,
        partition: Partition,
        term: Term,
        seq: u64,
        manifest: Bytes,
    ) -> Result<(), StoreError> {
        self.write(partition, move |tx| {
            tables::state(tx, partition)?.check(partition, term)?;
            tables::checkpoint(tx, partition, seq, &manifest)
        })
        .await
    }

    async fn load_checkpoint(
        &self,
        partition: Partition,
    ) -> Result<Option<(Head, Bytes)>, StoreError> {
        self.view(partition, move |tx| tables::load_checkpoint(tx, partition)).await
    }
}
