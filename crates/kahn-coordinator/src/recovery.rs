//! Recovers the core from the store before the term begins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kahn_core::log::Head;
use kahn_core::{Core, Settings};
use kahn_model::{Partition, Timestamp};
use kahn_store::{Acquired, LogStore, StoreError, codec, link};
use tracing::info;

/// Payload bytes requested at a time.
const PAGE_BYTES: usize = 4 << 20;

/// Why recovery failed.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The store returned an error.
    #[error("partition {partition}: {source}")]
    Store {
        /// The partition of the log.
        partition: Partition,
        /// The store's error.
        source: StoreError,
    },
    /// A record cannot be decoded.
    #[error("partition {partition}, record {seq}: {source}")]
    Record {
        /// The partition of the log.
        partition: Partition,
        /// The sequence number of the record or of the checkpoint.
        seq: u64,
        /// The decoding error.
        source: codec::CodecError,
    },
    /// A record does not continue the chain of the log.
    #[error("partition {partition}, record {seq}: the chain of the log is broken")]
    Chain {
        /// The partition of the log.
        partition: Partition,
        /// The first record that does not fit.
        seq: u64,
    },
}

/// A partition that was taken over.
#[derive(Debug)]
pub(crate) struct Owned {
    pub partition: Partition,
    pub acquired: Acquired,
    /// Log bytes after the checkpoint.
    pub log_bytes: u64,
}

/// The core with the replayed logs of all partitions.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub core: Core,
    pub owned: Vec<Owned>,
    /// The latest time in any record.
    pub latest: Timestamp,
}

/// Takes over all partitions and replays their logs.
pub(crate) async fn recover(
    store: &Arc<dyn LogStore>,
    settings: Settings,
    nonce: u64,
) -> Result<Recovered, RecoveryError> {
    let partitions = settings.partitions;
    let mut core = Core::new(settings);
    let mut owned = Vec::new();
    let mut latest = Timestamp::ZERO;
    for partition in (0..partitions).map(Partition) {
        let failed = |source| RecoveryError::Store { partition, source };
        let acquired = store.acquire(partition, nonce, true).await.map_err(failed)?;
        let mut reader =
            Reader { store, partition, core: &mut core, latest, named: BTreeSet::new() };
        let log_bytes = reader.replay_log(acquired.head).await?;
        latest = reader.latest;
        reader.sweep(&acquired).await?;
        owned.push(Owned { partition, acquired, log_bytes });
    }
    info!(runs = core.state().n_runs(), leases = core.state().n_leases(), "recovered");
    Ok(Recovered { core, owned, latest })
}

struct Reader<'a> {
    store: &'a Arc<dyn LogStore>,
    partition: Partition,
    core: &'a mut Core,
    latest: Timestamp,
    /// Blobs that are still referenced.
    named: BTreeSet<String>,
}

impl Reader<'_> {
    fn store_error(&self) -> impl Fn(StoreError) -> RecoveryError + use<> {
        let partition = self.partition;
        move |source| RecoveryError::Store { partition, source }
    }

    fn record_error(&self, seq: u64) -> impl Fn(codec::CodecError) -> RecoveryError + use<> {
        let partition = self.partition;
        move |source| RecoveryError::Record { partition, seq, source }
    }

    async fn replay_log(&mut self, head: Head) -> Result<u64, RecoveryError> {
        let mut at = Head::GENESIS;
        let checkpoint = self.store.load_checkpoint(self.partition).await;
        if let Some((head, manifest)) = checkpoint.map_err(self.store_error())? {
            at = head;
            self.restore(head.seq, &manifest).await?;
        }
        let mut log_bytes = 0;
        while at.seq < head.seq {
            let page = self.store.read(self.partition, at.seq, PAGE_BYTES).await;
            let page = page.map_err(self.store_error())?;
            if page.is_empty() {
                return Err(RecoveryError::Chain { partition: self.partition, seq: at.seq + 1 });
            }
            for (next, payload) in page {
                if next.seq != at.seq + 1 || next.hash != link(at.hash, &payload) {
                    return Err(RecoveryError::Chain { partition: self.partition, seq: next.seq });
                }
                self.replay(next.seq, &payload).await?;
                log_bytes += u64::try_from(payload.len()).unwrap_or(u64::MAX);
                at = next;
            }
        }
        Ok(log_bytes)
    }

    async fn restore(&mut self, seq: u64, manifest: &Bytes) -> Result<(), RecoveryError> {
        let names = codec::snapshot_blob_names(manifest).map_err(self.record_error(seq))?;
        let pieces = self.fetch_all(names).await?;
        let snapshot = codec::decode_snapshot(manifest, |name| piece(&pieces, name))
            .map_err(self.record_error(seq))?;
        self.latest = self.latest.max(snapshot.at);
        self.core.restore(snapshot);
        Ok(())
    }

    async fn replay(&mut self, seq: u64, payload: &Bytes) -> Result<(), RecoveryError> {
        let names = codec::blob_names(payload).map_err(self.record_error(seq))?;
        let pieces = self.fetch_all(names).await?;
        let changes = codec::decode_batch(payload, |name| piece(&pieces, name))
            .map_err(self.record_error(seq))?;
        for (at, change) in changes {
            self.latest = self.latest.max(at);
            self.core.replay(at, &change);
        }
        Ok(())
    }

    /// Fetches blobs, and marks them as referenced. Missing ones are detected by the codec.
    async fn fetch_all(
        &mut self,
        names: Vec<String>,
    ) -> Result<BTreeMap<String, Bytes>, RecoveryError> {
        let mut pieces = BTreeMap::new();
        for name in names {
            let found = self.store.get_blob(self.partition, &name).await;
            if let Some(bytes) = found.map_err(self.store_error())? {
                pieces.insert(name.clone(), bytes);
            }
            self.named.insert(name);
        }
        Ok(pieces)
    }

    /// Removes unreferenced blobs, left by removed runs or failed writes.
    async fn sweep(&self, acquired: &Acquired) -> Result<(), RecoveryError> {
        let all = self.store.list_blobs(self.partition, "").await.map_err(self.store_error())?;
        let orphans: Vec<String> =
            all.into_iter().filter(|name| !self.named.contains(name)).collect();
        if orphans.is_empty() {
            return Ok(());
        }
        info!(partition = %self.partition, n = orphans.len(), "removing orphaned blobs");
        self.store
            .delete_blobs(self.partition, acquired.term, &orphans)
            .await
            .map_err(self.store_error())
    }
}

fn piece(pieces: &BTreeMap<String, Bytes>, name: &str) -> Result<Bytes, codec::CodecError> {
    let missing = || codec::CodecError::MissingBlob(name.to_owned());
    pieces.get(name).cloned().ok_or_else(missing)
}
