//! A store in memory, for tests and for runs that need not survive the process.

mod import;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kahn_core::log::{Append, Head, Reply, Term};
use kahn_model::Partition;

use crate::durability::Durability;
use crate::error::StoreError;
use crate::lease::{Claim, LEASE_TTL, Owner};
use crate::local::{Leases, LogState};
use crate::record::Position;
use crate::store::{Acquired, AppendPipe, AppendReply, Batch, ClusterMeta, LogStore};

pub use import::MemoryImport;

#[derive(Debug, Default)]
struct PartitionData {
    state: LogState,
    log: VecDeque<(Head, Bytes)>,
    blobs: BTreeMap<String, Bytes>,
    checkpoint: Option<(Head, Bytes)>,
}

impl PartitionData {
    fn append(&mut self, term: Term, append: Append<Batch>) -> Reply {
        let reply = self.state.judge(term, &append);
        if reply == Reply::Applied {
            self.blobs.extend(append.payload.blobs);
            self.log.push_back((append.next, append.payload.payload));
            self.state.head = append.next;
        }
        reply
    }

    fn head_at(&self, seq: u64) -> Option<Head> {
        let mut heads = self.log.iter().map(|(head, _)| *head);
        let stands = self.checkpoint.as_ref().map(|(head, _)| *head);
        stands.filter(|head| head.seq == seq).or_else(|| heads.find(|head| head.seq == seq))
    }
}

#[derive(Debug)]
struct Partitions {
    meta: ClusterMeta,
    leases: Leases,
    partitions: Vec<Mutex<PartitionData>>,
    /// Whether renewals wait, as if the store could not be reached.
    #[cfg(feature = "testing")]
    holds_renewals: tokio::sync::watch::Sender<bool>,
    /// How often the store has pretended to fail.
    n_outages: AtomicU64,
}

impl Partitions {
    fn partition(&self, partition: Partition) -> Result<MutexGuard<'_, PartitionData>, StoreError> {
        self.meta.check(partition)?;
        let data = &self.partitions[usize::from(partition.0)];
        Ok(data.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A store that keeps everything in memory; clones share it.
#[derive(Clone, Debug)]
pub struct MemoryStore(Arc<Partitions>);

impl MemoryStore {
    /// Creates an empty store for a new cluster.
    #[must_use]
    pub fn new(meta: ClusterMeta) -> Self {
        let partitions = (0..meta.partitions).map(|_| Mutex::default()).collect();
        Self(Arc::new(Partitions {
            meta,
            leases: Leases::new(meta),
            partitions,
            #[cfg(feature = "testing")]
            holds_renewals: tokio::sync::watch::Sender::new(false),
            n_outages: AtomicU64::new(0),
        }))
    }

    /// Opens the same store again, as a restarted coordinator would.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::PartitionCount`] if `wanted` has another number of partitions.
    pub fn reopen(&self, wanted: ClusterMeta) -> Result<Self, StoreError> {
        self.0.meta.admit(wanted)?;
        Ok(self.clone())
    }

    /// Makes renewals wait, or lets them pass again.
    #[cfg(feature = "testing")]
    pub fn hold_renewals(&self, are_held: bool) {
        self.0.holds_renewals.send_replace(are_held);
    }

    /// Counts an outage that no request has noticed.
    #[cfg(feature = "testing")]
    pub fn count_outage(&self) {
        self.0.n_outages.fetch_add(1, Ordering::SeqCst);
    }

    /// Drops the last `n` entries of a log, like a server that crashes with unwritten buffers.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NoPartition`] if there is no such log.
    #[cfg(feature = "testing")]
    pub fn lose_tail(&self, partition: Partition, n: usize) -> Result<(), StoreError> {
        let mut data = self.0.partition(partition)?;
        let kept = data.log.len().saturating_sub(n);
        data.log.truncate(kept);
        let stands = data.checkpoint.as_ref().map_or(Head::GENESIS, |(head, _)| *head);
        data.state.head = data.log.back().map_or(stands, |(head, _)| *head);
        Ok(())
    }
}

#[async_trait]
impl LogStore for MemoryStore {
    fn durability(&self) -> Durability {
        Durability::Ephemeral
    }

    fn meta(&self) -> ClusterMeta {
        self.0.meta
    }

    fn lease_ttl(&self) -> Duration {
        LEASE_TTL
    }

    fn n_outages(&self) -> u64 {
        self.0.n_outages.load(Ordering::SeqCst)
    }

    async fn acquire(
        &self,
        partition: Partition,
        owner: &Owner,
        claim: Claim,
    ) -> Result<Acquired, StoreError> {
        let mut data = self.0.partition(partition)?;
        if let Claim::Undisturbed { n_outages, .. } = claim
            && n_outages != self.n_outages()
        {
            return Err(StoreError::Outage);
        }
        self.0.leases.take(partition, owner, claim)?;
        let term = data.state.begin(owner.nonce);
        Ok(Acquired { term, head: data.state.head })
    }

    async fn renew(&self, partition: Partition, term: Term) -> Result<Head, StoreError> {
        #[cfg(feature = "testing")]
        // The sender is never gone, since this store owns it.
        drop(self.0.holds_renewals.subscribe().wait_for(|are_held| !are_held).await);
        let data = self.0.partition(partition)?;
        data.state.check(partition, term)?;
        self.0.leases.extend(partition, term.nonce);
        Ok(data.state.head)
    }

    async fn release(&self, partition: Partition, term: Term) -> Result<(), StoreError> {
        let data = self.0.partition(partition)?;
        if data.state.term == Some(term) {
            self.0.leases.drop_if_held(partition, term.nonce);
        }
        Ok(())
    }

    async fn position(&self, partition: Partition) -> Result<Position, StoreError> {
        Ok(self.0.partition(partition)?.state.position())
    }

    fn pipe(&self, partition: Partition, term: Term) -> Box<dyn AppendPipe> {
        Box::new(MemoryPipe { store: self.clone(), partition, term, sent: VecDeque::new() })
    }

    async fn read(
        &self,
        partition: Partition,
        after_seq: u64,
        bytes_max: usize,
    ) -> Result<Vec<(Head, Bytes)>, StoreError> {
        let data = self.0.partition(partition)?;
        let from = data.log.partition_point(|(head, _)| head.seq <= after_seq);
        let mut taken = 0;
        let page = data.log.iter().skip(from).take_while(|(_, payload)| {
            let is_first = taken == 0;
            taken += payload.len().max(1);
            is_first || taken <= bytes_max
        });
        Ok(page.cloned().collect())
    }

    async fn put_blob(
        &self,
        partition: Partition,
        name: &str,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        self.0.partition(partition)?.blobs.insert(name.to_owned(), bytes);
        Ok(())
    }

    async fn get_blob(
        &self,
        partition: Partition,
        name: &str,
    ) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.partition(partition)?.blobs.get(name).cloned())
    }

    async fn delete_blobs(
        &self,
        partition: Partition,
        term: Term,
        names: &[String],
    ) -> Result<(), StoreError> {
        let mut data = self.0.partition(partition)?;
        data.state.check(partition, term)?;
        for name in names {
            data.blobs.remove(name);
        }
        Ok(())
    }

    async fn list_blobs(
        &self,
        partition: Partition,
        prefix: &str,
    ) -> Result<Vec<String>, StoreError> {
        let data = self.0.partition(partition)?;
        let from = data.blobs.range(prefix.to_owned()..);
        Ok(from.map(|(name, _)| name.clone()).take_while(|n| n.starts_with(prefix)).collect())
    }

    async fn checkpoint(
        &self,
        partition: Partition,
        term: Term,
        seq: u64,
        manifest: Bytes,
    ) -> Result<(), StoreError> {
        let mut data = self.0.partition(partition)?;
        data.state.check(partition, term)?;
        let head = data.head_at(seq).ok_or(StoreError::NoEntry { partition, seq })?;
        data.checkpoint = Some((head, manifest));
        let n_covered = data.log.partition_point(|(head, _)| head.seq <= seq);
        data.log.drain(..n_covered);
        Ok(())
    }

    async fn load_checkpoint(
        &self,
        partition: Partition,
    ) -> Result<Option<(Head, Bytes)>, StoreError> {
        Ok(self.0.partition(partition)?.checkpoint.clone())
    }
}

#[derive(Debug)]
struct MemoryPipe {
    store: MemoryStore,
    partition: Partition,
    term: Term,
    sent: VecDeque<AppendReply>,
}

impl AppendPipe for MemoryPipe {
    fn send(&mut self, append: Append<Batch>) {
        let send = append.send;
        let done = self.store.0.partition(self.partition).map(|mut s| s.append(self.term, append));
        let (reply, cause) = match done {
            Ok(reply) => (reply, None),
            Err(error) => (Reply::Refused, Some(error)),
        };
        self.sent.push_back(AppendReply { send, reply, cause });
    }

    fn poll_reply(&mut self, _: &mut Context<'_>) -> Poll<AppendReply> {
        self.sent.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
