//! Errors of a store.

use std::path::PathBuf;

use kahn_core::log::Term;
use kahn_model::Partition;

use crate::store::{ClusterId, Owner};

/// Why a store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another owner holds the partition and has renewed its lease in time.
    #[error("partition {partition} is held by {:016x} {}", holder.nonce, holder.address)]
    Held {
        /// The requested partition.
        partition: Partition,
        /// The current owner.
        holder: Owner,
    },
    /// The term is over: another one has begun.
    #[error("term {term} of partition {partition} is over")]
    Fenced {
        /// The partition.
        partition: Partition,
        /// The term of the request.
        term: Term,
    },
    /// A checkpoint was requested at an entry that is not in the log.
    #[error("the log of partition {partition} has no entry {seq}")]
    NoEntry {
        /// The partition.
        partition: Partition,
        /// The requested sequence number.
        seq: u64,
    },
    /// The cluster has fewer partitions.
    #[error("no partition {partition}: the cluster has {count}")]
    NoPartition {
        /// The requested partition.
        partition: Partition,
        /// The number of partitions.
        count: u16,
    },
    /// The store has another number of partitions, which is fixed when a cluster is created.
    #[error("the store was created with {found} partitions, not {wanted}")]
    PartitionCount {
        /// The number in the store.
        found: u16,
        /// The configured number.
        wanted: u16,
    },
    /// The store is now empty or contains a different cluster than when it was opened.
    #[error("the store holds {} and not cluster {wanted}", describe(*found))]
    WrongCluster {
        /// The cluster that it contains now.
        found: Option<ClusterId>,
        /// The cluster that it contained when it was opened.
        wanted: ClusterId,
    },
    /// Redis is configured so that it could lose or evict acknowledged batches.
    #[error(transparent)]
    Unsafe(#[from] UnsafeSetting),
    /// Another process has the embedded store open.
    #[error("store {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The content of the store cannot be read.
    #[error("store is damaged: {0}")]
    Damaged(String),
    /// The configuration is not valid for this store.
    #[error("{0}")]
    BadConfig(String),
    /// The store has been closed.
    #[error("store is closed")]
    Closed,
    /// No answer arrived in time.
    #[error("no answer from {what} in time")]
    TimedOut {
        /// The server or operation that did not answer.
        what: &'static str,
    },
    /// Redis, or the connection to it, failed.
    #[error("redis: {0}")]
    Redis(#[from] ::redis::RedisError),
    /// The embedded database failed.
    #[error("embedded store: {0}")]
    Embedded(Box<redb::Error>),
    /// An operation on a file or socket failed.
    #[error("{context}")]
    Io {
        /// The attempted operation.
        context: String,
        /// The OS error.
        #[source]
        source: std::io::Error,
    },
}

/// A Redis setting that contradicts the required durability, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "redis setting {setting} is {found:?}, and acknowledged work could be lost; needed is \
     {needed}: run {way_out:?}, or start with --allow-unsafe-redis"
)]
pub struct UnsafeSetting {
    /// The name of the setting or of the reported status.
    pub setting: &'static str,
    /// Its value.
    pub found: String,
    /// The required value.
    pub needed: &'static str,
    /// A command that fixes the setting.
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
