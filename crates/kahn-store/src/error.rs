//! Errors of a store.

use std::path::PathBuf;

use kahn_core::log::Term;
use kahn_model::Partition;

use crate::lease::Owner;
use crate::store::ClusterId;

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
    /// A cluster was to be put into a store that has one.
    #[error(
        "the store holds cluster {0}, and a backup is restored into an empty store only: name \
         another one, or empty this one if that cluster is not needed any more"
    )]
    Occupied(ClusterId),
    /// A backup was being restored into the store, and was not completed.
    #[error(
        "the store holds a part of cluster {0}, because `kahn restore` has not finished: repeat it, \
         or empty the store"
    )]
    Unfinished(ClusterId),
    /// Another import into the same store has begun.
    #[error("another `kahn restore` into the same store has begun, and replaces this one")]
    ImportReplaced,
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
    /// A server did not become ready in time.
    #[error("no answer from redis at {server} in time, when connecting")]
    NoAnswer {
        /// The address of the server.
        server: String,
    },
    /// A connection could not be set up.
    #[error("redis at {server}: {source}{hint}")]
    Connect {
        /// The address of the server.
        server: String,
        /// What may be the reason.
        hint: &'static str,
        /// The error.
        source: Box<::redis::RedisError>,
    },
    /// A TLS connection could not be made.
    #[error("TLS with redis at {server}: {source}; {advice}")]
    Tls {
        /// The address of the server.
        server: String,
        /// What to do about it.
        advice: &'static str,
        /// The error.
        source: std::io::Error,
    },
    /// A server that should be the master replicates another one, or has been replaced.
    #[error("redis at {server} is a replica or has been replaced, and not the master")]
    NotMaster {
        /// The address of the server.
        server: String,
    },
    /// The servers that know where the master is could not be asked, or do not know it.
    #[error("no master of redis for {wanted} is known: {problems}")]
    NoMaster {
        /// The name of the master, or the slot.
        wanted: String,
        /// What each server has answered.
        problems: String,
    },
    /// At the start, fewer replicas are connected than writes have to reach.
    #[error(
        "redis at {server} has {found} connected replicas, and coordinator.store.replicas is \
         {wanted}: connect more replicas, or lower the number"
    )]
    TooFewReplicas {
        /// The address of the server.
        server: String,
        /// The number of connected replicas.
        found: u32,
        /// The configured number.
        wanted: u32,
    },
    /// A write has been made, but too few replicas have received it in time.
    #[error("{found} of {wanted} replicas of redis have received a write in time")]
    NotReplicated {
        /// The number of replicas that have received it.
        found: u32,
        /// The required number.
        wanted: u32,
    },
    /// The store failed or was replaced between two steps of an operation that must not be repeated.
    #[error("the store has failed for a moment, and the operation was not carried out")]
    Outage,
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
    "redis at {server}: setting {setting} is {found:?}, and acknowledged work could be lost; needed is \
     {needed}: run {way_out:?}, or start with --allow-unsafe-redis"
)]
pub struct UnsafeSetting {
    /// The address of the server.
    pub server: String,
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

    /// Formats the error and its sources on one line.
    pub(crate) fn described(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(inner) = source {
            let inner_text = inner.to_string();
            if !text.contains(&inner_text) {
                text.push_str(": ");
                text.push_str(&inner_text);
            }
            source = inner.source();
        }
        text
    }

    pub(crate) fn io(context: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { context: context.into(), source }
    }
}
