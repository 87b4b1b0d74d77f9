//! The operations of [`LogStore`] as calls of scripts and commands.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{Cmd, Value};
use async_trait::async_trait;
use bytes::Bytes;
use kahn_core::log::{Head, Term};
use kahn_model::Partition;
use tokio::time::Instant;

use crate::durability::Durability;
use crate::error::StoreError;
use crate::lease::{Claim, Owner};
use crate::record::Position;
use crate::redis::RedisStore;
use crate::redis::access::Access;
use crate::redis::control::{Operation, Purpose};
use crate::redis::keys::{self, Keys};
use crate::redis::pipe::RedisPipe;
use crate::redis::reply::{Answer, position};
use crate::redis::scripts::SCRIPTS;
use crate::store::{Acquired, AppendPipe, ClusterId, ClusterMeta, LogStore};

impl RedisStore {
    async fn read_with(&self, partition: Partition, call: &Cmd) -> Result<Value, StoreError> {
        self.run(partition, call, Purpose::Read).await
    }

    async fn write_with(&self, partition: Partition, call: &Cmd) -> Result<Value, StoreError> {
        self.run(partition, call, Purpose::Write).await
    }

    async fn run(
        &self,
        partition: Partition,
        call: &Cmd,
        purpose: Purpose,
    ) -> Result<Value, StoreError> {
        self.0.meta.check(partition)?;
        let operation = self.operation(partition, call, purpose);
        self.0.access.run(keys::slot(partition), &operation).await
    }

    fn operation<'a>(
        &self,
        partition: Partition,
        call: &'a Cmd,
        purpose: Purpose,
    ) -> Operation<'a> {
        let home = Some((partition, self.0.meta.id));
        Operation { call, purpose, home, n_outages: None }
    }

    /// Runs the script that acquires a partition. If too few replicas have received the result in
    /// time, it is run again, which extends the lease: its earlier owner is fenced in any case.
    async fn run_claim(
        &self,
        partition: Partition,
        call: &Cmd,
        claim: Claim,
    ) -> Result<Value, StoreError> {
        self.0.meta.check(partition)?;
        let until = Instant::now() + self.0.lease_ttl;
        let mut operation = self.operation(partition, call, Purpose::Write);
        let slot = keys::slot(partition);
        loop {
            let claimed = match claim {
                // The lease may have expired because of an outage that is not over for its owner.
                Claim::Undisturbed { n_outages, .. } => {
                    operation.n_outages = Some(n_outages);
                    self.0.access.run_once(slot, &operation).await
                }
                _ => self.0.access.run(slot, &operation).await,
            };
            match claimed {
                Err(StoreError::NotReplicated { .. }) if Instant::now() < until => {}
                claimed => return claimed,
            }
        }
    }

    /// Runs a script that checks a fence, and returns its answer without the first word.
    async fn write_fenced(
        &self,
        partition: Partition,
        term: Term,
        call: &Cmd,
    ) -> Result<Answer, StoreError> {
        let mut answer = Answer::new(self.write_with(partition, call).await?)?;
        match answer.text()?.as_str() {
            "OK" => Ok(answer),
            "FENCED" => Err(StoreError::Fenced { partition, term }),
            other => Err(StoreError::Damaged(format!("redis answered {other:?}"))),
        }
    }
}

/// Returns the names of all blobs of a partition, in ascending order.
pub(super) async fn blob_names(
    access: &Access,
    partition: Partition,
    cluster: Option<ClusterId>,
) -> Result<Vec<String>, StoreError> {
    let blobs = Keys::new(partition).blobs;
    let home = cluster.map(|id| (partition, id));
    let mut names = Vec::new();
    let mut cursor = 0_u64;
    loop {
        let mut call = ::redis::cmd("SSCAN");
        call.arg(&blobs).arg(cursor).arg("COUNT").arg(1000);
        let operation = Operation { call: &call, purpose: Purpose::Read, home, n_outages: None };
        let page = access.run(keys::slot(partition), &operation).await?;
        let (next, some): (u64, Vec<String>) =
            ::redis::from_redis_value(page).map_err(::redis::RedisError::from)?;
        names.extend(some);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn nonce_text(nonce: u64) -> String {
    format!("{nonce:016x}")
}

/// Parses the text of a lease: a nonce, a space, and an address.
fn parse_owner(lease: &str) -> Option<Owner> {
    let (nonce, address) = lease.split_once(' ').unwrap_or((lease, ""));
    let nonce = u64::from_str_radix(nonce, 16).ok()?;
    Some(Owner { nonce, address: address.to_owned() })
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).expect("invariant: leases are short")
}

#[async_trait]
impl LogStore for RedisStore {
    fn durability(&self) -> Durability {
        self.0.durability
    }

    fn meta(&self) -> ClusterMeta {
        self.0.meta
    }

    fn lease_ttl(&self) -> Duration {
        self.0.lease_ttl
    }

    fn n_outages(&self) -> u64 {
        self.0.access.outages.count()
    }

    async fn acquire(
        &self,
        partition: Partition,
        owner: &Owner,
        claim: Claim,
    ) -> Result<Acquired, StoreError> {
        let keys = Keys::new(partition);
        let mut call = SCRIPTS.acquire.on(&[&keys.m, &keys.lease]);
        call.arg(nonce_text(owner.nonce)).arg(&owner.address).arg(millis(self.0.lease_ttl));
        call.arg(match claim {
            Claim::IfFree | Claim::Undisturbed { earlier: None, .. } => String::new(),
            Claim::Succeeding(earlier) | Claim::Undisturbed { earlier: Some(earlier), .. } => {
                nonce_text(earlier)
            }
            Claim::Force => "force".to_owned(),
        });
        call.arg(self.0.meta.id.to_string());
        let mut answer = Answer::new(self.run_claim(partition, &call, claim).await?)?;
        let word = answer.text()?;
        let text = answer.text()?;
        let damaged = || StoreError::Damaged(format!("redis answered {word:?} {text:?}"));
        match word.as_str() {
            "OK" => {}
            "HELD" => {
                let holder = parse_owner(&text).ok_or_else(damaged)?;
                return Err(StoreError::Held { partition, holder });
            }
            "FOREIGN" => {
                let found = u128::from_str_radix(&text, 16).ok().map(ClusterId);
                return Err(StoreError::WrongCluster { found, wanted: self.0.meta.id });
            }
            _ => return Err(damaged()),
        }
        let term = text.parse().map_err(|_| damaged())?;
        Ok(Acquired { term, head: answer.head()? })
    }

    async fn renew(&self, partition: Partition, term: Term) -> Result<Head, StoreError> {
        let keys = Keys::new(partition);
        let mut call = SCRIPTS.renew.on(&[&keys.m, &keys.lease]);
        call.arg(term.to_string()).arg(millis(self.0.lease_ttl));
        self.write_fenced(partition, term, &call).await?.head()
    }

    async fn release(&self, partition: Partition, term: Term) -> Result<(), StoreError> {
        let keys = Keys::new(partition);
        let mut call = SCRIPTS.release.on(&[&keys.m, &keys.lease]);
        call.arg(term.to_string());
        self.write_with(partition, &call).await.map(drop)
    }

    async fn position(&self, partition: Partition) -> Result<Position, StoreError> {
        let mut call = ::redis::cmd("HMGET");
        call.arg(Keys::new(partition).m).arg("e").arg("s").arg("h");
        position(self.read_with(partition, &call).await?)
    }

    fn pipe(&self, partition: Partition, term: Term) -> Box<dyn AppendPipe> {
        Box::new(RedisPipe::new(Arc::clone(&self.0), partition, term))
    }

    async fn read(
        &self,
        partition: Partition,
        after_seq: u64,
        bytes_max: usize,
    ) -> Result<Vec<(Head, Bytes)>, StoreError> {
        let mut call = SCRIPTS.read.on(&[&Keys::new(partition).log]);
        call.arg(after_seq).arg(bytes_max);
        let mut answer = Answer::new(self.read_with(partition, &call).await?)?;
        let mut page = Vec::new();
        while !answer.is_empty() {
            page.push((answer.head()?, answer.bytes()?));
        }
        Ok(page)
    }

    async fn put_blob(
        &self,
        partition: Partition,
        name: &str,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        let blobs = Keys::new(partition).blobs;
        let mut call = SCRIPTS.put_blob.on(&[&Keys::blob(partition, name), &blobs]);
        call.arg(name).arg(&bytes[..]);
        self.write_with(partition, &call).await.map(drop)
    }

    async fn get_blob(
        &self,
        partition: Partition,
        name: &str,
    ) -> Result<Option<Bytes>, StoreError> {
        let mut call = ::redis::cmd("GET");
        call.arg(Keys::blob(partition, name));
        match self.read_with(partition, &call).await? {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
            other => Err(StoreError::Damaged(format!("redis answered {other:?}"))),
        }
    }

    async fn delete_blobs(
        &self,
        partition: Partition,
        term: Term,
        names: &[String],
    ) -> Result<(), StoreError> {
        let keys = Keys::new(partition);
        let blob_keys: Vec<String> = names.iter().map(|name| Keys::blob(partition, name)).collect();
        let mut all = vec![keys.m.as_str(), &keys.blobs];
        all.extend(blob_keys.iter().map(String::as_str));
        let mut call = SCRIPTS.delete_blobs.on(&all);
        call.arg(term.to_string()).arg(names);
        self.write_fenced(partition, term, &call).await.map(drop)
    }

    async fn list_blobs(
        &self,
        partition: Partition,
        prefix: &str,
    ) -> Result<Vec<String>, StoreError> {
        self.0.meta.check(partition)?;
        let mut names = blob_names(&self.0.access, partition, Some(self.0.meta.id)).await?;
        names.retain(|name| name.starts_with(prefix));
        Ok(names)
    }

    async fn checkpoint(
        &self,
        partition: Partition,
        term: Term,
        seq: u64,
        manifest: Bytes,
    ) -> Result<(), StoreError> {
        let keys = Keys::new(partition);
        let mut call = SCRIPTS.checkpoint.on(&[&keys.m, &keys.log, &keys.checkpoint]);
        call.arg(term.to_string()).arg(seq).arg(seq.saturating_add(1)).arg(&manifest[..]);
        let mut answer = Answer::new(self.write_with(partition, &call).await?)?;
        match answer.text()?.as_str() {
            "OK" => Ok(()),
            "NOENTRY" => Err(StoreError::NoEntry { partition, seq }),
            "FENCED" => Err(StoreError::Fenced { partition, term }),
            other => Err(StoreError::Damaged(format!("redis answered {other:?}"))),
        }
    }

    async fn load_checkpoint(
        &self,
        partition: Partition,
    ) -> Result<Option<(Head, Bytes)>, StoreError> {
        let mut call = ::redis::cmd("HMGET");
        call.arg(Keys::new(partition).checkpoint).arg("s").arg("h").arg("b");
        match self.read_with(partition, &call).await? {
            Value::Array(values) if values.iter().all(|value| *value == Value::Nil) => Ok(None),
            found => {
                let mut answer = Answer::new(found)?;
                Ok(Some((answer.head()?, answer.bytes()?)))
            }
        }
    }
}
