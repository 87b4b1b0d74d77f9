//! A copy of the state that follows the logs in the store.
//!
//! A standby keeps its replica up to date, so that little is left to replay when it takes over. A
//! coordinator that takes over at its start uses a new replica.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use kahn_core::log::Head;
use kahn_core::{Core, Settings};
use kahn_model::{Partition, Timestamp};
use kahn_store::{Acquired, LogStore, StoreError, codec, link};
use tracing::{error, info};

/// Payload bytes requested at a time.
const PAGE_BYTES: usize = 4 << 20;
/// Maximum number of log bytes that count as written after the last checkpoint. The leader has taken
/// checkpoints since a standby loaded one.
const BYTES_MAX: u64 = 8 << 20;
/// How often a replica that cannot continue starts again from the checkpoints at once. The leader
/// may take another checkpoint meanwhile.
const RELOADS_MAX: usize = 3;

/// Why the state could not be read from the store.
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
    /// Log bytes after the checkpoint, estimated for a replica that has followed the log for long.
    pub log_bytes: u64,
}

/// The core with the complete state.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub core: Core,
    pub owned: Vec<Owned>,
    /// The latest time in any record.
    pub latest: Timestamp,
}

/// A copy of the state of all partitions.
#[derive(Debug)]
pub(crate) struct Replica {
    store: Arc<dyn LogStore>,
    settings: Settings,
    core: Core,
    logs: Vec<Log>,
    latest: Timestamp,
}

/// How much of the log of a partition was replayed.
#[derive(Clone, Debug, Default)]
struct Log {
    head: Head,
    /// Log bytes after the checkpoint that was loaded.
    bytes: u64,
}

impl Replica {
    /// Creates a replica that has read nothing yet.
    pub(crate) fn new(store: Arc<dyn LogStore>, settings: Settings) -> Self {
        let core = Core::new(settings.clone());
        Self { store, settings, core, logs: Vec::new(), latest: Timestamp::ZERO }
    }

    /// Reads what was appended since the last call.
    ///
    /// After an error, the next call starts again from the checkpoints.
    pub(crate) async fn follow(&mut self) -> Result<(), RecoveryError> {
        for _ in 0..RELOADS_MAX {
            match self.read_all(None).await {
                // A checkpoint has replaced these records or their blobs, or the store has lost the
                // tail of the log.
                Err(error @ (RecoveryError::Chain { .. } | RecoveryError::Record { .. })) => {
                    info!(%error, "following again from the checkpoints");
                }
                done => return done,
            }
        }
        self.read_all(None).await
    }

    /// Reads the rest of all logs, which are now owned: one [`Acquired`] for each partition.
    pub(crate) async fn finish(mut self, owned: Vec<Acquired>) -> Result<Recovered, RecoveryError> {
        for (log, acquired) in self.logs.iter().zip(&owned) {
            if let Some(lost @ 1..) = log.head.seq.checked_sub(acquired.head.seq) {
                error!(lost, "the store has lost records that this coordinator had read");
            }
        }
        match self.read_all(Some(&owned)).await {
            Err(RecoveryError::Chain { partition, seq }) => {
                info!(%partition, seq, "the log has changed; starting from the checkpoints");
                self.read_all(Some(&owned)).await?;
            }
            done => done?,
        }
        let mut partitions = Vec::new();
        for (partition, (acquired, log)) in owned.into_iter().zip(&self.logs).enumerate() {
            let partition = Partition(u16::try_from(partition).unwrap_or(u16::MAX));
            partitions.push(Owned { partition, acquired, log_bytes: log.bytes.min(BYTES_MAX) });
        }
        let state = self.core.state();
        info!(runs = state.n_runs(), leases = state.n_leases(), "recovered");
        Ok(Recovered { core: self.core, owned: partitions, latest: self.latest })
    }

    /// Replays all logs: to the given heads, or to their ends. After an error nothing is left of
    /// the replica, because it may contain records that the store has lost.
    async fn read_all(&mut self, owned: Option<&[Acquired]>) -> Result<(), RecoveryError> {
        let mut logs = mem::take(&mut self.logs);
        if logs.is_empty() {
            self.core = Core::new(self.settings.clone());
            self.latest = Timestamp::ZERO;
        }
        for partition in (0..self.settings.partitions).map(Partition) {
            let ix = usize::from(partition.0);
            if logs.len() == ix {
                logs.push(self.load(partition).await?);
            }
            let end = owned.map(|owned| owned[ix].head);
            self.read(partition, &mut logs[ix], end).await?;
        }
        self.logs = logs;
        Ok(())
    }

    /// Loads the checkpoint of a partition.
    async fn load(&mut self, partition: Partition) -> Result<Log, RecoveryError> {
        let mut log = Log::default();
        let checkpoint = self.store.load_checkpoint(partition).await;
        let Some((head, manifest)) = checkpoint.map_err(store_error(partition))? else {
            return Ok(log);
        };
        let failed = record_error(partition, head.seq);
        let names = codec::snapshot_blob_names(&manifest).map_err(&failed)?;
        let blobs = self.fetch(partition, &names).await?;
        let snapshot =
            codec::decode_snapshot(&manifest, |name| blob(&blobs, name)).map_err(&failed)?;
        self.latest = self.latest.max(snapshot.at);
        self.core.restore(snapshot);
        log.head = head;
        Ok(log)
    }

    async fn read(
        &mut self,
        partition: Partition,
        log: &mut Log,
        end: Option<Head>,
    ) -> Result<(), RecoveryError> {
        while end.is_none_or(|end| log.head.seq < end.seq) {
            let page = self.store.read(partition, log.head.seq, PAGE_BYTES).await;
            let page = page.map_err(store_error(partition))?;
            if page.is_empty() {
                break;
            }
            for (next, payload) in page {
                let is_next = next.seq == log.head.seq + 1;
                if !is_next || next.hash != link(log.head.hash, &payload) {
                    return Err(RecoveryError::Chain { partition, seq: next.seq });
                }
                self.replay(partition, next.seq, &payload, log).await?;
                log.head = next;
            }
        }
        match end {
            Some(end) if end != log.head => Err(RecoveryError::Chain { partition, seq: end.seq }),
            _ => Ok(()),
        }
    }

    async fn replay(
        &mut self,
        partition: Partition,
        seq: u64,
        payload: &Bytes,
        log: &mut Log,
    ) -> Result<(), RecoveryError> {
        let failed = record_error(partition, seq);
        let names = codec::blob_names(payload).map_err(&failed)?;
        let blobs = self.fetch(partition, &names).await?;
        let changes = codec::decode_batch(payload, |name| blob(&blobs, name)).map_err(&failed)?;
        for (at, change) in changes {
            self.latest = self.latest.max(at);
            self.core.replay(at, &change);
        }
        log.bytes += u64::try_from(payload.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Fetches blobs. Missing ones are detected by the codec.
    async fn fetch(
        &self,
        partition: Partition,
        names: &[String],
    ) -> Result<BTreeMap<String, Bytes>, RecoveryError> {
        let mut blobs = BTreeMap::new();
        for name in names {
            let found = self.store.get_blob(partition, name).await;
            if let Some(bytes) = found.map_err(store_error(partition))? {
                blobs.insert(name.clone(), bytes);
            }
        }
        Ok(blobs)
    }
}

fn store_error(partition: Partition) -> impl Fn(StoreError) -> RecoveryError {
    move |source| RecoveryError::Store { partition, source }
}

fn record_error(partition: Partition, seq: u64) -> impl Fn(codec::CodecError) -> RecoveryError {
    move |source| RecoveryError::Record { partition, seq, source }
}

fn blob(blobs: &BTreeMap<String, Bytes>, name: &str) -> Result<Bytes, codec::CodecError> {
    let missing = || codec::CodecError::MissingBlob(name.to_owned());
    blobs.get(name).cloned().ok_or_else(missing)
}
