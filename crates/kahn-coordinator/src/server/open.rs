//! Opens the tokens and the stores of a configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kahn_runtime::metrics::Metrics;
use kahn_runtime::secret::{Secret, mask_url_password};
use kahn_runtime::token::{Token, TokenError};
use kahn_store::{
    ClusterId, ClusterMeta, Durability, EmbeddedStore, LogStore, MemoryStore, RedisStore,
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

pub(super) async fn store(
    config: &Config,
    partitions: u16,
) -> Result<Arc<dyn LogStore>, StartError> {
    let url = config.store.url();
    let meta = ClusterMeta { id: ClusterId(u128::from_le_bytes(random()?)), partitions };
    let failed = |source| StartError::Store { url: mask_url_password(url), source };
    Ok(match url {
        "memory" => Arc::new(MemoryStore::new(meta)),
        "embedded" => {
            let dir = config.data_dir.join("store");
            create_dir(&dir)?;
            let durability = match config.store.durability {
                EmbeddedDurability::Process => Durability::Process,
                EmbeddedDurability::Disk => Durability::Disk,
            };
            let opened =
                tokio::task::spawn_blocking(move || EmbeddedStore::open(&dir, meta, durability));
            let opened = opened.await.map_err(|error| StartError::Io {
                what: "embedded store".into(),
                source: std::io::Error::other(error),
            })?;
            Arc::new(opened.map_err(failed)?)
        }
        _ => {
            let redis = config.store.redis(config.leader_ttl);
            Arc::new(RedisStore::open(&redis, meta).await.map_err(failed)?)
        }
    })
}
