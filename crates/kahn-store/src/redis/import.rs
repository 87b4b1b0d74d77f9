//! Fills a store in Redis.
//!
//! The nonce of the import is in the key with the properties of the cluster, and in each partition.
//! Whoever begins another import replaces it, and then nothing more is written with the old one.
//! The id of the cluster is written last: first to the partitions, then to the properties.

use std::fmt;

use ::redis::Cmd;
use async_trait::async_trait;
use kahn_model::Partition;

use crate::error::StoreError;
use crate::import::{EPOCHS_LEFT, Import};
use crate::record::{Position, Record};
use crate::redis::access::Access;
use crate::redis::config::RedisConfig;
use crate::redis::control::{Operation, Purpose};
use crate::redis::keys::{self, Keys};
use crate::redis::operations::blob_names;
use crate::redis::reply::Answer;
use crate::redis::scripts::{SCRIPTS, Script};
use crate::redis::slots::slot_of;
use crate::redis::{RedisStore, UNFINISHED, parse_id};
use crate::store::{ClusterId, ClusterMeta};

/// The number of blobs that are removed at a time.
const UNLINKED_MAX: usize = 500;

/// A store in Redis that is being filled.
pub struct RedisImport {
    access: Access,
    meta: ClusterMeta,
    nonce: String,
    /// The number of outages before the first write.
    n_outages: u64,
}

impl fmt::Debug for RedisImport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisImport").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Connects, checks that Redis is safe to use, and begins to fill it. What an earlier import
    /// that was not completed has left is removed.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Occupied`] if there is a cluster, and the errors of
    /// [`open`](Self::open) about Redis.
    pub async fn import(
        config: &RedisConfig,
        meta: ClusterMeta,
    ) -> Result<RedisImport, StoreError> {
        let access = Access::new(config)?;
        let nonce = format!("{:016x}", fastrand::u64(..));
        let mut import = RedisImport { access, meta, nonce, n_outages: 0 };
        let n = import.begin().await?;
        import.n_outages = import.access.outages.count();
        for partition in (0..n.max(meta.partitions)).map(Partition) {
            import.clear(partition).await?;
        }
        Ok(import)
    }
}

impl RedisImport {
    /// Takes the place of the cluster. Returns the number of partitions that may have data.
    async fn begin(&self) -> Result<u16, StoreError> {
        let key = keys::meta();
        let mut call = SCRIPTS.import_begin.on(&[&key]);
        call.arg(self.marker()).arg(self.meta.partitions);
        let n = self.run(slot_of(&key), &call).await?.text()?;
        n.parse().map_err(|_| StoreError::Damaged(format!("number of partitions {n:?} in redis")))
    }

    async fn clear(&self, partition: Partition) -> Result<(), StoreError> {
        let keys = Keys::new(partition);
        let on = [&keys.m[..], &keys.log, &keys.lease, &keys.checkpoint];
        self.write_to(partition, &SCRIPTS.import_clear, &on, |_| {}).await?;
        for names in blob_names(&self.access, partition, None).await?.chunks(UNLINKED_MAX) {
            let blobs: Vec<_> = names.iter().map(|name| Keys::blob(partition, name)).collect();
            let mut on = vec![&keys.m[..], &keys.blobs];
            on.extend(blobs.iter().map(String::as_str));
            let script = &SCRIPTS.import_unlink;
            let with_names = |call: &mut Cmd| {
                call.arg(names);
            };
            self.write_to(partition, script, &on, with_names).await?;
        }
        Ok(())
    }

    /// Writes records of the same kind, one after the other in the partition.
    async fn write_alike(
        &self,
        partition: Partition,
        records: &[Record],
    ) -> Result<(), StoreError> {
        let keys = Keys::new(partition);
        let blob_keys: Vec<_> = records.iter().filter_map(|r| blob_key(partition, r)).collect();
        let (script, on) = match records.first() {
            None => return Ok(()),
            Some(Record::Blob { .. }) => {
                let mut on = vec![&keys.m[..], &keys.blobs];
                on.extend(blob_keys.iter().map(String::as_str));
                (&SCRIPTS.import_blobs, on)
            }
            Some(Record::Checkpoint { .. }) => {
                (&SCRIPTS.import_checkpoint, vec![&keys.m[..], &keys.checkpoint])
            }
            Some(Record::Entry { .. }) => (&SCRIPTS.import_entries, vec![&keys.m[..], &keys.log]),
            Some(Record::End(_)) => (&SCRIPTS.import_epoch, vec![&keys.m[..]]),
        };
        let with_all = |call: &mut Cmd| records.iter().for_each(|record| add(call, record));
        self.write_to(partition, script, &on, with_all).await
    }

    async fn write_to(
        &self,
        partition: Partition,
        script: &Script,
        on: &[&str],
        arguments: impl FnOnce(&mut Cmd),
    ) -> Result<(), StoreError> {
        let mut call = script.on(on);
        call.arg(&self.nonce);
        arguments(&mut call);
        self.run(keys::slot(partition), &call).await.map(drop)
    }

    /// Runs a script, and returns its answer without the first word.
    async fn run(&self, slot: u16, call: &Cmd) -> Result<Answer, StoreError> {
        let operation = Operation { call, purpose: Purpose::Write, home: None, n_outages: None };
        let mut answer = Answer::new(self.access.run(slot, &operation).await?)?;
        match answer.text()?.as_str() {
            "OK" => Ok(answer),
            "FENCED" => Err(StoreError::ImportReplaced),
            "OCCUPIED" => Err(StoreError::Occupied(parse_id(&answer.text()?)?)),
            other => Err(StoreError::Damaged(format!("redis answered {other:?}"))),
        }
    }

    fn marker(&self) -> String {
        format!("{UNFINISHED}{} {}", self.nonce, self.meta.id)
    }
}

/// Returns the id of the cluster in a store that is not complete, or `None` if `text` is the id of a
/// complete one.
pub(super) fn unfinished(text: &str) -> Option<Result<ClusterId, StoreError>> {
    let (_nonce, id) = text.strip_prefix(UNFINISHED)?.split_once(' ').unwrap_or_default();
    Some(parse_id(id))
}

fn blob_key(partition: Partition, record: &Record) -> Option<String> {
    match record {
        Record::Blob { name, .. } => Some(Keys::blob(partition, name)),
        Record::Checkpoint { .. } | Record::Entry { .. } | Record::End(_) => None,
    }
}

/// Adds the arguments of a record to the call that writes it.
fn add(call: &mut Cmd, record: &Record) {
    match record {
        Record::Blob { name, bytes } => call.arg(name).arg(&bytes[..]),
        Record::Checkpoint { head, manifest } => {
            call.arg(head.seq).arg(&head.hash.0[..]).arg(&manifest[..])
        }
        Record::Entry { head, payload } => {
            call.arg(head.seq).arg(&head.hash.0[..]).arg(&payload[..])
        }
        Record::End(Position { epoch, .. }) => call.arg(epoch.saturating_add(EPOCHS_LEFT)),
    };
}

#[async_trait]
impl Import for RedisImport {
    fn meta(&self) -> ClusterMeta {
        self.meta
    }

    async fn write(&self, partition: Partition, records: Vec<Record>) -> Result<(), StoreError> {
        self.meta.check(partition)?;
        let is_alike =
            |a: &Record, b: &Record| std::mem::discriminant(a) == std::mem::discriminant(b);
        for records in records.chunk_by(is_alike) {
            self.write_alike(partition, records).await?;
        }
        Ok(())
    }

    async fn complete(&self) -> Result<(), StoreError> {
        let id = self.meta.id.to_string();
        for partition in (0..self.meta.partitions).map(Partition) {
            let keys = Keys::new(partition);
            let with_id = |call: &mut Cmd| {
                call.arg(&id);
            };
            self.write_to(partition, &SCRIPTS.import_join, &[&keys.m], with_id).await?;
        }
        // A server that restarted or was replaced meanwhile may lack what it has confirmed.
        if self.access.outages.count() != self.n_outages {
            return Err(StoreError::Outage);
        }
        let key = keys::meta();
        let mut call = SCRIPTS.import_complete.on(&[&key]);
        call.arg(self.marker()).arg(&id).arg(self.meta.partitions);
        self.run(slot_of(&key), &call).await?;
        // Without this, an import into what is left after a loss of the properties would be possible.
        // The first leader does it, too.
        for partition in (0..self.meta.partitions).map(Partition) {
            let keys = Keys::new(partition);
            drop(self.write_to(partition, &SCRIPTS.import_leave, &[&keys.m], |_| {}).await);
        }
        Ok(())
    }
}
