//! Opens the tokens and the stores of a configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kahn_core::Settings;
use kahn_runtime::metrics::Metrics;
use kahn_runtime::secret::{Secret, mask_url_password};
use kahn_runtime::token::{Token, TokenError};
use kahn_store::{
    ClusterId, ClusterMeta, Durability, EmbeddedStore, Import, LogStore, MemoryStore, RedisStore,
    StoreError,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::StartError;
use crate::config::{Config, EmbeddedDurability};
use crate::grpc::auth::Tokens;
use crate::histories::Histories;
use crate::logs::{Caps, Logs, UploadStats};

pub(super) fn tokens(config: &Config) -> Result<Tokens, StartError> {
    create_dir(&config.data_dir)?;
    let client = token(
        config.client_token.as_ref(),
        config.client_token_file.as_deref(),
        config.data_dir.join("client.token"),
    )?;
    let worker = token(
        config.worker_token.as_ref(),
        config.worker_token_file.as_deref(),
        config.data_dir.join("worker.token"),
    )?;
    Ok(Tokens { client: Arc::new(client), worker: Arc::new(worker) })
}

fn token(given: Option<&Secret>, file: Option<&Path>, usual: PathBuf) -> Result<Token, TokenError> {
    match given {
        Some(secret) => Token::from_secret(secret, "the configuration"),
        None => Token::from_file_or_generate(file.unwrap_or(&usual)),
    }
}

/// Creates a directory that is accessible only to the user who runs the coordinator.
fn create_dir(dir: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| {
        StartError::Io { what: format!("data directory {}", dir.display()), source }
    })
}

/// Returns random bytes.
pub(super) fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| StartError::Io {
        what: "random numbers".into(),
        source: std::io::Error::other(error),
    })?;
    Ok(bytes)
}

/// Opens the blob store, if there is one, for the output and the archived runs of a cluster.
pub(super) async fn blobs(
    config: &Config,
    cluster: &str,
    metrics: &Metrics,
    stopping: &CancellationToken,
) -> Result<(Logs, Histories), StartError> {
    let caps =
        Caps { attempt_bytes: config.limits.log_bytes, total_bytes: config.limits.total_log_bytes };
    let logs = Logs::new(config.data_dir.join("logs"), caps);
    let uploads = UploadStats::new(metrics);
    let Some(blobs) = config.blobs.open()? else {
        let counted = logs.clone();
        tokio::spawn(async move { counted.recover().await });
        return Ok((logs, Histories::default()));
    };
    info!(url = blobs.url(), "blob store open");
    let url = blobs.url().to_owned();
    let histories = Histories::new(blobs.clone());
    let logs = logs.with_store(blobs, uploads);
    if !logs.claim(cluster, stopping).await {
        return Err(StartError::ForeignBlobs(url));
    }
    logs.recover().await;
    Ok((logs, histories))
}

/// Opens the store. If no number of partitions is configured, that of an existing cluster is used: it
/// may be a restored one, which has as many as before.
pub(super) async fn store(
    config: &Config,
    settings: &mut Settings,
) -> Result<Arc<dyn LogStore>, StartError> {
    let opened = store_of(config, settings.partitions).await;
    let opened = match opened {
        Err(StoreError::PartitionCount { found, .. }) if config.store.partitions.is_none() => {
            store_of(config, found).await
        }
        opened => opened,
    };
    let store = opened.map_err(|source| failed(config, source))?;
    settings.partitions = store.meta().partitions;
    Ok(store)
}

fn failed(config: &Config, source: StoreError) -> StartError {
    StartError::Store { url: mask_url_password(config.store.url()), source }
}

async fn store_of(config: &Config, partitions: u16) -> Result<Arc<dyn LogStore>, StoreError> {
    let meta = ClusterMeta { id: new_id().map_err(|error| bad_config(&error))?, partitions };
    Ok(match config.store.url() {
        "memory" => Arc::new(MemoryStore::new(meta)),
        "embedded" => {
            let dir = embedded_dir(config)?;
            let durability = match config.store.durability {
                EmbeddedDurability::Process => Durability::Process,
                EmbeddedDurability::Disk => Durability::Disk,
            };
            Arc::new(blocking(move || EmbeddedStore::open(&dir, meta, durability)).await?)
        }
        _ => Arc::new(RedisStore::open(&config.store.redis(config.leader_ttl), meta).await?),
    })
}

/// Begins to fill the store of a configuration, which must be empty, with a cluster. It gets a new id
/// unless one is given.
///
/// # Errors
///
/// Returns [`StartError::Store`] if there is a cluster or the store cannot be opened.
pub async fn begin_import(
    config: &Config,
    partitions: u16,
    id: Option<ClusterId>,
) -> Result<Box<dyn Import>, StartError> {
    let id = match id {
        Some(id) => id,
        None => new_id()?,
    };
    let meta = ClusterMeta { id, partitions };
    let begun = import_into(config, meta).await;
    begun.map_err(|source| failed(config, source))
}

async fn import_into(config: &Config, meta: ClusterMeta) -> Result<Box<dyn Import>, StoreError> {
    Ok(match config.store.url() {
        "memory" => {
            let message = "a store in memory would end with this process; name another one";
            return Err(StoreError::BadConfig(message.to_owned()));
        }
        "embedded" => {
            create_dir(&config.data_dir).map_err(|error| bad_config(&error))?;
            let dir = embedded_dir(config)?;
            Box::new(blocking(move || EmbeddedStore::import(&dir, meta)).await?)
        }
        _ => Box::new(RedisStore::import(&config.store.redis(config.leader_ttl), meta).await?),
    })
}

fn new_id() -> Result<ClusterId, StartError> {
    random().map(u128::from_le_bytes).map(ClusterId)
}

fn embedded_dir(config: &Config) -> Result<PathBuf, StoreError> {
    let dir = config.data_dir.join("store");
    create_dir(&dir).map_err(|error| bad_config(&error))?;
    Ok(dir)
}

fn bad_config(error: &StartError) -> StoreError {
    StoreError::BadConfig(error.to_string())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
}
