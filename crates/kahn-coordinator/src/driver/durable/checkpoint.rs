//! Writes checkpoints, and removes the blobs that are no longer referenced.

use std::collections::BTreeSet;
use std::sync::Arc;

use kahn_core::log::Term;
use kahn_model::Partition;
use kahn_store::{LogStore, StoreError, codec};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::inbox::{Input, Written};

/// Writes a checkpoint, and notifies the driver.
pub(super) async fn write(
    store: Arc<dyn LogStore>,
    partition: Partition,
    term: Term,
    seq: u64,
    encoded: codec::Encoded,
    inbox: mpsc::Sender<Input>,
) {
    let size: usize =
        encoded.payload.len() + encoded.blobs.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    let written = match put(&store, partition, term, seq, encoded).await {
        Ok(unnamed) => {
            let bytes = u64::try_from(size).unwrap_or(u64::MAX);
            Some(Written { bytes, unnamed })
        }
        Err(error) => {
            warn!(%partition, %error, "checkpoint not written; the log is kept instead");
            None
        }
    };
    // The driver may be gone.
    drop(inbox.send(Input::Checkpointed { partition, seq, written }).await);
}

/// Writes the blobs of the manifest, then the manifest. Returns the blobs that it does not
/// reference.
async fn put(
    store: &Arc<dyn LogStore>,
    partition: Partition,
    term: Term,
    seq: u64,
    encoded: codec::Encoded,
) -> Result<Vec<String>, StoreError> {
    let known = store.list_blobs(partition, "").await?;
    let named: BTreeSet<String> = encoded.blobs.iter().map(|(name, _)| name.clone()).collect();
    for (name, bytes) in encoded.blobs {
        if known.binary_search(&name).is_err() {
            store.put_blob(partition, &name, bytes).await?;
        }
    }
    store.checkpoint(partition, term, seq, encoded.payload).await?;
    Ok(known.into_iter().filter(|name| !named.contains(name)).collect())
}

/// Removes blobs, and notifies the driver. Blobs that could not be removed are found again after
/// the next checkpoint.
pub(super) async fn sweep(
    store: Arc<dyn LogStore>,
    partition: Partition,
    term: Term,
    names: Vec<String>,
    inbox: mpsc::Sender<Input>,
) {
    match store.delete_blobs(partition, term, &names).await {
        Ok(()) => debug!(%partition, n = names.len(), "removed unreferenced blobs"),
        Err(error) => warn!(%partition, %error, "unreferenced blobs not removed"),
    }
    // The driver may be gone.
    drop(inbox.send(Input::Swept { partition }).await);
}
