//! The interface of all stores.
//!
//! A store judges an append only by comparing heads and terms (see [`kahn_core::log`]) and does not
//! interpret the bytes.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kahn_core::log::{Append, Head, Reply, Term};
use kahn_model::Partition;

use crate::durability::Durability;
use crate::error::StoreError;
use crate::lease::{Claim, Owner};
use crate::record::Position;

/// The id of a cluster, drawn at random when it is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The properties of a cluster that are fixed when it is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterMeta {
    /// The id. When a store is opened, the id for a cluster that has to be created.
    pub id: ClusterId,
    /// The number of partitions.
    pub partitions: u16,
}

impl ClusterMeta {
    /// Checks that `partition` exists.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NoPartition`] if it does not exist.
    pub fn check(&self, partition: Partition) -> Result<(), StoreError> {
        if partition.0 < self.partitions {
            return Ok(());
        }
        Err(StoreError::NoPartition { partition, count: self.partitions })
    }

    /// Checks `self`, as found in the store, against the configured `wanted`.
    pub(crate) fn admit(self, wanted: Self) -> Result<Self, StoreError> {
        if self.partitions == wanted.partitions {
            return Ok(self);
        }
        Err(StoreError::PartitionCount { found: self.partitions, wanted: wanted.partitions })
    }
}

/// The result of beginning a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// The new term, sent with every write from now on.
    pub term: Term,
    /// The head of the log for the new owner. Nobody else can append to it any more.
    pub head: Head,
}

/// One log entry and the blobs it refers to, which become durable together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The entry.
    pub payload: Bytes,
    /// Names and contents. A name always has the same content, even if the batch is not appended.
    pub blobs: Vec<(String, Bytes)>,
}

impl Batch {
    /// Creates a batch without blobs.
    #[must_use]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), blobs: Vec::new() }
    }

    /// Returns the size in bytes, including blobs.
    #[must_use]
    pub fn size(&self) -> usize {
        self.blobs.iter().fold(self.payload.len(), |sum, (_, bytes)| sum + bytes.len())
    }
}

/// The outcome of one append.
#[derive(Debug)]
pub struct AppendReply {
    /// The number of the send, [`Append::send`].
    pub send: u64,
    /// The reply.
    pub reply: Reply,
    /// The error, with [`Reply::Refused`] and [`Reply::Unknown`].
    pub cause: Option<StoreError>,
}

/// A channel for appends to one log in one term, with replies in the order of the requests.
///
/// It has no task of its own and only makes progress while it is polled, so a reply reaches its
/// owner directly. It reconnects on each request if necessary, without a delay.
pub trait AppendPipe: Send + fmt::Debug {
    /// Queues a request. It is sent when the pipe is polled.
    fn send(&mut self, append: Append<Batch>);

    /// Returns the next reply. Pending while nothing is in flight.
    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<AppendReply>;
}

/// A durable log with blobs and a checkpoint for each partition of a cluster.
#[async_trait]
pub trait LogStore: Send + Sync + fmt::Debug + 'static {
    /// Returns what an acknowledged append survives.
    fn durability(&self) -> Durability;

    /// Returns the properties of the cluster in the store.
    fn meta(&self) -> ClusterMeta;

    /// Returns how long an owner keeps a partition without renewing its lease.
    fn lease_ttl(&self) -> Duration;

    /// Counts the outages of the store, even if requests made meanwhile were repeated and succeeded.
    ///
    /// During an outage an owner cannot renew its lease, and the store may lose the tail of the log,
    /// which only the owner can restore. So others should give it time afterwards.
    fn n_outages(&self) -> u64 {
        0
    }

    /// Begins a term, which fences every other term of the partition.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Held`] if `claim` does not permit to replace the current owner, and
    /// [`StoreError::Outage`] if it does not permit to do so after an outage.
    async fn acquire(
        &self,
        partition: Partition,
        owner: &Owner,
        claim: Claim,
    ) -> Result<Acquired, StoreError>;

    /// Extends the lease by another [`lease_ttl`](Self::lease_ttl) and returns the head of the log.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Fenced`] if another term is in force.
    async fn renew(&self, partition: Partition, term: Term) -> Result<Head, StoreError>;

    /// Makes the partition available at once. Has no effect if the term is over.
    ///
    /// # Errors
    ///
    /// Returns an error only if the store cannot be reached.
    async fn release(&self, partition: Partition, term: Term) -> Result<(), StoreError>;

    /// Returns where the log stands, whoever owns the partition.
    ///
    /// # Errors
    ///
    /// Returns an error only if the store cannot be reached or is damaged.
    async fn position(&self, partition: Partition) -> Result<Position, StoreError>;

    /// Returns a pipe for appends in `term`.
    fn pipe(&self, partition: Partition, term: Term) -> Box<dyn AppendPipe>;

    /// Appends once, without retries. Owners use an [`Appender`](crate::Appender).
    async fn append(&self, partition: Partition, term: Term, append: Append<Batch>) -> AppendReply {
        let mut pipe = self.pipe(partition, term);
        pipe.send(append);
        poll_fn(|cx| pipe.poll_reply(cx)).await
    }

    /// Returns the entries after `after_seq`: at least one if there is any, and about `bytes_max`
    /// of payload in total.
    ///
    /// Returns nothing at the end of the log.
    ///
    /// # Errors
    ///
    /// Returns an error only if the store cannot be reached or is damaged.
    async fn read(
        &self,
        partition: Partition,
        after_seq: u64,
        bytes_max: usize,
    ) -> Result<Vec<(Head, Bytes)>, StoreError>;

    /// Writes a blob, replacing any blob of the same name.
    ///
    /// # Errors
    ///
    /// Returns an error only if the store cannot be reached; the blob may then have been written or
    /// not.
    async fn put_blob(
        &self,
        partition: Partition,
        name: &str,
        bytes: Bytes,
    ) -> Result<(), StoreError>;

    /// Reads a blob.
    ///
    /// # Errors
    ///
    /// Returns an error only if the store cannot be reached.
    async fn get_blob(&self, partition: Partition, name: &str)
    -> Result<Option<Bytes>, StoreError>;

    /// Removes blobs. Names that do not exist are ignored.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Fenced`] if another term has begun, because its owner may need the
    /// blobs.
    async fn delete_blobs(
        &self,
        partition: Partition,
        term: Term,
        names: &[String],
    ) -> Result<(), StoreError>;

    /// Returns the names that start with `prefix`, in ascending order.
    ///
    /// # Errors
    ///
    /// Returns an error only if the store cannot be reached.
    async fn list_blobs(
        &self,
        partition: Partition,
        prefix: &str,
    ) -> Result<Vec<String>, StoreError>;

    /// Sets the checkpoint: `manifest` replaces all entries up to and including `seq`, which are
    /// dropped atomically with it. It may be repeated with the same `seq`.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Fenced`] if another term has begun, and [`StoreError::NoEntry`] if the
    /// log does not contain `seq`.
    async fn checkpoint(
        &self,
        partition: Partition,
        term: Term,
        seq: u64,
        manifest: Bytes,
    ) -> Result<(), StoreError>;

    /// Returns the checkpoint and the head of the log that it covers.
    ///
    /// # Errors
    ///
    /// Returns an error only if the store cannot be reached or is damaged.
    async fn load_checkpoint(
        &self,
        partition: Partition,
    ) -> Result<Option<(Head, Bytes)>, StoreError>;
}
