//! A store in Redis: one server, one that sentinels watch over, or a Redis Cluster.
//!
//! Control operations use shared connections; each owner appends over its own connection. Every
//! write is one of the scripts in `scripts/`, and each script can safely be sent twice.

mod access;
mod address;
mod config;
mod control;
mod dial;
mod gate;
mod import;
mod keys;
mod link;
mod login;
mod operations;
mod outages;
mod pipe;
mod replicate;
mod reply;
mod scripts;
mod slots;
mod tls;
mod topology;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kahn_model::Partition;
use tokio::time::{Instant, sleep};

use crate::durability::Durability;
use crate::error::StoreError;
use crate::redis::access::Access;
use crate::redis::control::{Operation, Purpose};
use crate::redis::link::{check_home, home_query};
use crate::redis::scripts::SCRIPTS;
use crate::redis::slots::slot_of;
use crate::store::{ClusterId, ClusterMeta};

pub use config::RedisConfig;
pub use import::RedisImport;

/// How the id of a cluster begins that is being restored. The rest is the nonce of the import and the
/// id that the cluster will have.
const UNFINISHED: &str = "restoring ";

/// How long replicas that are missing are waited for when the store is opened.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// The pause between two tries to open the store.
const OPEN_PAUSE: Duration = Duration::from_millis(100);

/// A store in Redis; clones share it.
#[derive(Clone)]
pub struct RedisStore(Arc<Shared>);

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (meta, level) = (self.0.meta, self.0.durability);
        f.debug_struct("RedisStore").field("meta", &meta).field("level", &level).finish()
    }
}

struct Shared {
    access: Access,
    meta: ClusterMeta,
    durability: Durability,
    lease_ttl: Duration,
}

impl RedisStore {
    /// Connects, checks that Redis is safe to use, and creates the cluster if there is none.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Unsafe`] for settings that could lose work, unless they are allowed,
    /// [`StoreError::TooFewReplicas`] if writes cannot be replicated as configured for seconds, and
    /// [`StoreError::PartitionCount`] if the cluster was created with another number of partitions.
    pub async fn open(config: &RedisConfig, wanted: ClusterMeta) -> Result<Self, StoreError> {
        let access = Access::new(config)?;
        let until = Instant::now() + OPEN_WITHIN;
        let meta = loop {
            match prepare(&access, wanted).await {
                Err(error) if lacks_replicas(&error) && Instant::now() < until => {
                    sleep(OPEN_PAUSE).await;
                }
                prepared => break prepared?,
            }
        };
        // Every server that has a partition has been asked for its settings by now.
        let durability = access.close_gate();
        let lease_ttl = config.lease_ttl;
        Ok(Self(Arc::new(Shared { access, meta, durability, lease_ttl })))
    }
}

/// Creates the cluster if there is none, and checks that all its partitions are there.
async fn prepare(access: &Access, wanted: ClusterMeta) -> Result<ClusterMeta, StoreError> {
    let (meta, is_complete) = create(access, wanted).await?;
    let meta = meta.admit(wanted)?;
    for partition in (0..meta.partitions).map(Partition) {
        if is_complete {
            check(access, partition, meta.id).await?;
        } else {
            mark(access, partition, meta.id).await?;
        }
    }
    if !is_complete {
        complete(access).await?;
    }
    Ok(meta)
}

/// Returns whether replicas are missing or slow, as they are for a while after a failover.
fn lacks_replicas(error: &StoreError) -> bool {
    match error {
        StoreError::TooFewReplicas { .. } | StoreError::NotReplicated { .. } => true,
        StoreError::Redis(error) => error.code() == Some("NOREPLICAS"),
        _ => false,
    }
}

/// Creates the cluster if there is none. Returns it, and whether all its partitions have its id.
async fn create(access: &Access, wanted: ClusterMeta) -> Result<(ClusterMeta, bool), StoreError> {
    let key = keys::meta();
    let mut call = SCRIPTS.create.on(&[&key]);
    call.arg(wanted.id.to_string()).arg(wanted.partitions);
    let operation = Operation { call: &call, purpose: Purpose::Write, home: None, n_outages: None };
    let answer = access.run(slot_of(&key), &operation).await?;
    let (id, partitions, complete): (String, u16, String) =
        ::redis::from_redis_value(answer).map_err(::redis::RedisError::from)?;
    if let Some(id) = import::unfinished(&id) {
        return Err(StoreError::Unfinished(id?));
    }
    Ok((ClusterMeta { id: parse_id(&id)?, partitions }, complete == "1"))
}

fn parse_id(text: &str) -> Result<ClusterId, StoreError> {
    let id = u128::from_str_radix(text, 16);
    id.map(ClusterId).map_err(|_| StoreError::Damaged(format!("cluster id {text:?} in redis")))
}

/// Makes a partition part of the cluster.
async fn mark(access: &Access, partition: Partition, id: ClusterId) -> Result<(), StoreError> {
    let mut call = SCRIPTS.mark.on(&[&keys::Keys::new(partition).m]);
    call.arg(id.to_string());
    let operation = Operation { call: &call, purpose: Purpose::Write, home: None, n_outages: None };
    check_home(access.run(keys::slot(partition), &operation).await?, id)
}

/// Checks that a partition is part of the cluster.
async fn check(access: &Access, partition: Partition, id: ClusterId) -> Result<(), StoreError> {
    let call = home_query(partition);
    let operation = Operation { call: &call, purpose: Purpose::Read, home: None, n_outages: None };
    check_home(access.run(keys::slot(partition), &operation).await?, id)
}

/// Notes that all partitions are part of the cluster. From now on, one that is not has lost its data.
async fn complete(access: &Access) -> Result<(), StoreError> {
    let key = keys::meta();
    let call = SCRIPTS.complete.on(&[&key]);
    let operation = Operation { call: &call, purpose: Purpose::Write, home: None, n_outages: None };
    access.run(slot_of(&key), &operation).await.map(drop)
}
