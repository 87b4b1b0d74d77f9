//! Empty stores of each kind.

use std::sync::Arc;

use kahn_store::testing::RedisServer;
use kahn_store::{
    ClusterId, ClusterMeta, Durability, EmbeddedStore, Import, LogStore, MemoryImport, RedisConfig,
    RedisStore, StoreError,
};
use tempfile::TempDir;

use super::source::N_PARTITIONS;
use crate::support::cluster;

/// The cluster that a backup becomes.
pub(crate) const NEW: ClusterMeta = ClusterMeta { id: ClusterId(0xbeef), partitions: N_PARTITIONS };

/// An empty store that a backup is restored into.
pub(crate) enum Target {
    Memory(MemoryImport),
    Embedded(TempDir),
    Redis(Box<Served>),
}

/// A store in Redis, and the server if it is only for this one.
pub(crate) struct Served {
    config: RedisConfig,
    _server: Option<RedisServer>,
}

impl Target {
    pub(crate) fn all() -> [Self; 3] {
        let memory = Self::Memory(MemoryImport::new(NEW));
        [memory, Self::embedded(), Self::redis()]
    }

    pub(crate) fn embedded() -> Self {
        Self::Embedded(tempfile::tempdir().unwrap())
    }

    pub(crate) fn redis() -> Self {
        let server = RedisServer::start("everysec");
        let config = RedisConfig::new(server.url());
        Self::Redis(Box::new(Served { config, _server: Some(server) }))
    }

    /// A store on servers that outlive it.
    pub(crate) fn served(config: RedisConfig) -> Self {
        Self::Redis(Box::new(Served { config, _server: None }))
    }

    pub(crate) async fn try_begin(&self) -> Result<Box<dyn Import>, StoreError> {
        Ok(match self {
            Self::Memory(import) => Box::new(import.clone()),
            Self::Embedded(dir) => Box::new(EmbeddedStore::import(dir.path(), NEW)?),
            Self::Redis(served) => Box::new(RedisStore::import(&served.config, NEW).await?),
        })
    }

    pub(crate) async fn begin(&self) -> Box<dyn Import> {
        self.try_begin().await.unwrap()
    }

    /// Opens the store like a coordinator, which has drawn an id for a new cluster.
    pub(crate) async fn try_open(&self) -> Result<Arc<dyn LogStore>, StoreError> {
        let wanted = cluster(N_PARTITIONS);
        Ok(match self {
            Self::Memory(import) => Arc::new(import.store().reopen(wanted)?),
            Self::Embedded(dir) => {
                Arc::new(EmbeddedStore::open(dir.path(), wanted, Durability::Process)?)
            }
            Self::Redis(served) => Arc::new(RedisStore::open(&served.config, wanted).await?),
        })
    }

    pub(crate) async fn open(&self) -> Arc<dyn LogStore> {
        self.try_open().await.unwrap()
    }
}
