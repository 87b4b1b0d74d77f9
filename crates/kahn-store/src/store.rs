//! What every store does.
//!
//! A store judges each append by comparison alone (see [`kahn_core::log`]) and knows nothing of
//! what the bytes mean.

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

/// An owner that has not renewed for this long may be replaced without being asked.
pub const LEASE_TTL: Duration = Duration::from_millis(1500);

/// How often an owner renews.
pub const RENEW_EVERY: Duration = Duration::from_millis(400);

/// The name of a cluster, drawn at random when it is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What is fixed when a cluster is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterMeta {
    /// When a store is opened: the name to give the cluster if this creates it.
    pub id: ClusterId,
    /// How many partitions it has.
    pub partitions: u16,
}

impl ClusterMeta {
    /// Checks that the cluster has `partition`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoPartition`] when it has not.
    pub fn check(&self, partition: Partition) -> Result<(), StoreError> {
        if partition.0 < self.partitions {
            return Ok(());
        }
        Err(StoreError::NoPartition { partition, count: self.partitions })
    }

    /// Checks `self`, as found in the store, against what the configuration wants.
    pub(crate) fn admit(self, wanted: Self) -> Result<Self, StoreError> {
        if self.partitions == wanted.partitions {
            return Ok(self);
        }
        Err(StoreError::PartitionCount { found: self.partitions, wanted: wanted.partitions })
    }
}

/// The beginning of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// Shown with every write from now on.
    pub term: Term,
    /// The log as the new owner finds it; nobody else can add to it any more.
    pub head: Head,
}

/// One entry of the log and the blobs it refers to, which become durable together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The entry.
    pub payload: Bytes,
    /// Names and contents. A name is written with one content only, whatever becomes of the batch.
    pub blobs: Vec<(String, Bytes)>,
}

impl Batch {
    /// A batch without blobs.
    #[must_use]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), blobs: Vec::new() }
    }

    /// Its size in bytes, blobs included.
    #[must_use]
    pub fn size(&self) -> usize {
        self.blobs.iter().fold(self.payload.len(), |sum, (_, bytes)| sum + bytes.len())
    }
}

/// What became of one append.
#[derive(Debug)]
pub struct AppendReply {
    /// The number of the send, [`Append::send`].
    pub send: u64,
    /// What is known.
    pub reply: Reply,
    /// What went wrong, with [`Reply::Refused`] and [`Reply::Unknown`].
    pub cause: Option<StoreError>,
}

/// A way to append to one log under one term: requests in, replies out, in the same order.
///
/// It has no task of its own and moves only while it is polled, so a reply reaches its owner
/// without a detour. It reconnects by itself with each request; it never waits before it does so.
pub trait AppendPipe: Send + fmt::Debug {
    /// Takes a request. It goes out when the pipe is polled.
    fn send(&mut self, append: Append<Batch>);

    /// The next reply; pending for as long as nothing is in flight.
    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<AppendReply>;
}

/// A durable log with blobs and a checkpoint for each partition of one cluster.
#[async_trait]
pub trait LogStore: Send + Sync + fmt::Debug + 'static {
    /// What an acknowledged append survives.
    fn durability(&self) -> Durability;

    /// The cluster that the store holds.
    fn meta(&self) -> ClusterMeta;

    /// Begins a term: from here on every other term of the partition is fenced.
    ///
    /// With `steal` a living owner is deposed, which is always safe.
    ///
    /// # Errors
    ///
    /// [`StoreError::Held`] when another nonce holds the partition and `steal` is false.
    async fn acquire(
        &self,
        partition: Partition,
        nonce: u64,
        steal: bool,
    ) -> Result<Acquired, StoreError>;

    /// Stays the owner for another [`LEASE_TTL`], and looks where the log stands.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`] when another term is in force.
    async fn renew(&self, partition: Partition, term: Term) -> Result<Head, StoreError>;

    /// Lets anybody acquire the partition at once. Without effect when the term is over.
    ///
    /// # Errors
    ///
    /// Only when the store cannot be reached.
    async fn release(&self, partition: Partition, term: Term) -> Result<(), StoreError>;

    /// A way to append under `term`.
    fn pipe(&self, partition: Partition, term: Term) -> Box<dyn AppendPipe>;

    /// Appends once, without help against trouble. Owners use an [`Appender`](crate::Appender).
    async fn append(&self, partition: Partition, term: Term, append: Append<Batch>) -> AppendReply {
        let mut pipe = self.pipe(partition, term);
        pipe.send(append);
        poll_fn(|cx| pipe.poll_reply(cx)).await
    }

    /// The entries after `after_seq`, at least one if there is any, about `bytes_max` of payload.
    ///
    /// Nothing comes back at the end of the log.
    ///
    /// # Errors
    ///
    /// Only when the store cannot be reached or is damaged.
    async fn read(
        &self,
        partition: Partition,
        after_seq: u64,
        bytes_max: usize,
    ) -> Result<Vec<(Head, Bytes)>, StoreError>;

    /// Writes a blob, in place of one of the same name.
    ///
    /// # Errors
    ///
    /// Only when the store cannot be reached; whether it was written is then unknown.
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
    /// Only when the store cannot be reached.
    async fn get_blob(&self, partition: Partition, name: &str)
    -> Result<Option<Bytes>, StoreError>;

    /// Removes blobs; names that do not exist are passed over.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`] when another term is in force: its owner may need them.
    async fn delete_blobs(
        &self,
        partition: Partition,
        term: Term,
        names: &[String],
    ) -> Result<(), StoreError>;

    /// The names that start with `prefix`, in order.
    ///
    /// # Errors
    ///
    /// Only when the store cannot be reached.
    async fn list_blobs(
        &self,
        partition: Partition,
        prefix: &str,
    ) -> Result<Vec<String>, StoreError>;

    /// Sets the checkpoint: `manifest` stands for all entries up to and including `seq`, which
    /// are dropped. Both happen or neither. Repeating it at the same `seq` is allowed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`] when another term is in force, [`StoreError::NoEntry`] when the log
    /// does not hold `seq`.
    async fn checkpoint(
        &self,
        partition: Partition,
        term: Term,
        seq: u64,
        manifest: Bytes,
    ) -> Result<(), StoreError>;

    /// The checkpoint and where it stands in the log.
    ///
    /// # Errors
    ///
    /// Only when the store cannot be reached or is damaged.
    async fn load_checkpoint(
        &self,
        partition: Partition,
    ) -> Result<Option<(Head, Bytes)>, StoreError>;
}
