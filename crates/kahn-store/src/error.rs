//! What can go wrong between a coordinator and its store.

use std::path::PathBuf;

use kahn_core::log::Term;
use kahn_model::Partition;

use crate::store::ClusterId;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else owns the partition and has renewed in time.
    #[error("partition {partition} is held by {holder:016x}")]
    Held {
        /// The partition asked for.
        partition: Partition,
        /// The nonce of the holder.
        holder: u64,
    },
    /// The term is over: another one is in force.
    #[error("term {term} of partition {partition} is over")]
    Fenced {
        /// The partition.
        partition: Partition,
        /// The term shown.
        term: Term,
    },
    /// A checkpoint was asked for at an entry that the log does not hold.
    #[error("the log of partition {partition} has no entry {seq}")]
    NoEntry {
        /// The partition.
        partition: Partition,
        /// The sequence number asked for.
        seq: u64,
    },
    /// The cluster has fewer partitions.
    #[error("no partition {partition}: the cluster has {count}")]
    NoPartition {
        /// The partition asked for.
        partition: Partition,
        /// How many there are.
        count: u16,
    },
    /// The number of partitions is fixed when a cluster is created.
    #[error("the store was created with {found} partitions, not {wanted}")]
    PartitionCount {
        /// What the store has.
        found: u16,
        /// What the configuration says.
        wanted: u16,
    },
    /// The store is empty or holds another cluster than when it was opened.
    #[error("the store holds {} and not cluster {wanted}", describe(*found))]
    WrongCluster {
        /// What it holds now.
        found: Option<ClusterId>,
        /// What it held.
        wanted: ClusterId,
    },
    /// Redis would lose or evict acknowledged batches.
    #[error(transparent)]
    Unsafe(#[from] UnsafeSetting),
    /// Another process has the embedded store open.
    #[error("store {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// What the store holds cannot be read.
    #[error("store is damaged: {0}")]
    Damaged(String),
    /// A store cannot be opened with this configuration.
    #[error("{0}")]
    BadConfig(String),
    /// The store has been closed.
    #[error("store is closed")]
    Closed,
    /// Nothing came back in time.
    #[error("no answer from {what} in time")]
    TimedOut {
        /// What was asked.
        what: &'static str,
    },
    /// Redis, or the way to it, failed.
    #[error("redis: {0}")]
    Redis(#[from] ::redis::RedisError),
    /// The embedded store failed.
    #[error("embedded store: {0}")]
    Embedded(Box<redb::Error>),
    /// A file or socket failed.
    #[error("{context}")]
    Io {
        /// What was attempted.
        context: String,
        /// How it failed.
        #[source]
        source: std::io::Error,
    },
}

/// A Redis setting that makes the promised durability a lie, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "redis setting {setting} is {found:?}, and acknowledged work could be lost; needed is \
     {needed}: run {way_out:?}, or start with --allow-unsafe-redis"
)]
pub struct UnsafeSetting {
    /// The name of the setting or of the reported state.
    pub setting: &'static str,
    /// Its value.
    pub found: String,
    /// What would do.
    pub needed: &'static str,
    /// A command that mends it.
    pub way_out: &'static str,
}

fn describe(found: Option<ClusterId>) -> String {
    found.map_or_else(|| "no cluster".to_owned(), |id| format!("cluster {id}"))
}

impl StoreError {
    pub(crate) fn embedded(error: impl Into<redb::Error>) -> Self {
        Self::Embedded(Box::new(error.into()))
    }

    pub(crate) fn io(context: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { context: context.into(), source }
    }
}
