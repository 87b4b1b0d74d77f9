//! A store in one Redis server.
//!
//! Control operations use one shared connection; each owner appends over its own connection. Every
//! write is one of the scripts in `scripts/`, and each script can safely be sent twice.

mod gate;
mod keys;
mod link;
mod pipe;
mod reply;
mod scripts;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Client, Cmd, Value};
use async_trait::async_trait;
use bytes::Bytes;
use kahn_core::log::{Head, Term};
use kahn_model::Partition;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use crate::durability::Durability;
use crate::error::StoreError;
use crate::redis::gate::Settings;
use crate::redis::keys::Keys;
use crate::redis::link::{Link, Target};
use crate::redis::pipe::RedisPipe;
use crate::redis::reply::{Answer, is_broken, is_no_script};
use crate::redis::scripts::SCRIPTS;
use crate::store::{
    Acquired, AppendPipe, Claim, ClusterId, ClusterMeta, LEASE_TTL, LogStore, Owner,
};

/// Connection settings for Redis, and the required level of safety.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://[user[:password]@]host[:port][/database]`, or `unix:///path`.
    pub url: String,
    /// The total timeout for connecting, authenticating and loading the scripts.
    pub connect_timeout: Duration,
    /// If no reply arrives within this time, the outcome of a request is unknown.
    pub response_timeout: Duration,
    /// Whether to accept a Redis that may lose or evict acknowledged batches.
    pub allow_unsafe: bool,
    /// How long an owner keeps a partition without renewing its lease.
    pub lease_ttl: Duration,
}

impl RedisConfig {
    /// Creates a configuration with the defaults for the Redis at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(2),
            allow_unsafe: false,
            lease_ttl: LEASE_TTL,
        }
    }
}

impl fmt::Debug for RedisConfig {
    /// Omits the URL, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("allow_unsafe", &self.allow_unsafe)
            .finish_non_exhaustive()
    }
}

/// A store in a standalone Redis; clones share it.
#[derive(Clone)]
pub struct RedisStore(Arc<Shared>);

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (meta, level) = (self.0.meta, self.0.durability);
        f.debug_struct("RedisStore").field("meta", &meta).field("level", &level).finish()
    }
}

pub(crate) struct Shared {
    target: Target,
    meta: ClusterMeta,
    durability: Durability,
    lease_ttl: Duration,
    control: Mutex<Option<Control>>,
}

impl Shared {
    async fn connect(&self) -> Result<Link, StoreError> {
        self.target.connect(Some(self.meta.id)).await
    }
}

/// The shared connection and the task that drives it.
struct Control {
    connection: MultiplexedConnection,
    driver: AbortHandle,
}

impl Control {
    fn new(link: Link) -> Self {
        let driver = tokio::spawn(link.driver).abort_handle();
        Self { connection: link.connection, driver }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl RedisStore {
    /// Connects, checks that Redis is safe to use, and creates the cluster if there is none.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Unsafe`] for settings that could lose work, unless they are allowed,
    /// and [`StoreError::PartitionCount`] if the cluster was created with another number of
    /// partitions.
    pub async fn open(config: &RedisConfig, wanted: ClusterMeta) -> Result<Self, StoreError> {
        let client = Client::open(config.url.as_str())
            .map_err(|e| StoreError::BadConfig(format!("address of redis: {e}")))?;
        let target = Target {
            client,
            connect_timeout: config.connect_timeout,
            response_timeout: config.response_timeout,
        };
        let mut control = Control::new(target.connect(None).await?);
        let settings = Settings::ask(&mut control.connection).await?;
        if !config.allow_unsafe {
            settings.check()?;
        }
        let meta = create(&mut control.connection, wanted).await?.admit(wanted)?;
        let durability = settings.durability();
        let (lease_ttl, control) = (config.lease_ttl, Mutex::new(Some(control)));
        Ok(Self(Arc::new(Shared { target, meta, durability, lease_ttl, control })))
    }

    /// Runs a command on the shared connection. A broken connection is replaced, once.
    async fn run(&self, partition: Partition, call: &Cmd) -> Result<Value, StoreError> {
        self.0.meta.check(partition)?;
        match self.try_run(call).await {
            Err(StoreError::Redis(e)) if e.is_connection_dropped() || is_no_script(&e) => {
                self.try_run(call).await
            }
            done => done,
        }
    }

    async fn try_run(&self, call: &Cmd) -> Result<Value, StoreError> {
        let mut connection = self.control().await?;
        let done = connection.send_packed_command(call).await.and_then(Value::extract_error);
        if done.as_ref().is_err_and(is_broken) {
            *self.0.control.lock().await = None;
        }
        Ok(done?)
    }

    async fn control(&self) -> Result<MultiplexedConnection, StoreError> {
        let mut control = self.0.control.lock().await;
        if control.is_none() {
            *control = Some(Control::new(self.0.connect().await?));
        }
        let control = control.as_ref().expect("invariant: it has just been made");
        Ok(control.connection.clone())
    }

    /// Runs a script that checks a fence, and returns its answer without the first word.
    async fn run_fenced(
        &self,
        partition: Partition,
        term: Term,
        call: &Cmd,
    ) -> Result<Answer, StoreError> {
        let mut answer = Answer::new(self.run(partition, call).await?)?;
        match answer.text()?.as_str() {
            "OK" => Ok(answer),
            "FENCED" => Err(StoreError::Fenced { partition, term }),
            other => Err(StoreError::Damaged(format!("redis answered {other:?}"))),
        }
    }
}

async fn create(
    connection: &mut MultiplexedConnection,
    wanted: ClusterMeta,
) -> Result<ClusterMeta, StoreError> {
    let mut call = SCRIPTS.create.on(&[&keys::meta()]);
    call.arg(wanted.id.to_string()).arg(wanted.partitions);
    let (id, partitions): (String, u16) = call.query_async(connection).await?;
    let id = u128::from_str_radix(&id, 16)
        .map_err(|_| StoreError::Damaged(format!("cluster id {id:?} in redis")))?;
    Ok(ClusterMeta { id: ClusterId(id), partitions })
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
            Claim::IfFree => String::new(),
            Claim::Succeeding(earlier) => nonce_text(earlier),
            Claim::Force => "force".to_owned(),
        });
        let mut answer = Answer::new(self.run(partition, &call).await?)?;
        let word = answer.text()?;
        let text = answer.text()?;
        let damaged = || StoreError::Damaged(format!("redis answered {word:?} {text:?}"));
        if word == "HELD" {
            let holder = parse_owner(&text).ok_or_else(damaged)?;
            return Err(StoreError::Held { partition, holder });
        }
        let term = text.parse().map_err(|_| damaged())?;
        Ok(Acquired { term, head: answer.head()? })
    }

    async fn renew(&self, partition: Partition, term: Term) -> Result<Head, StoreError> {
        let keys = Keys::new(partition);
        let mut call = SCRIPTS.renew.on(&[&keys.m, &keys.lease]);
        call.arg(term.to_string()).arg(millis(self.0.lease_ttl));
        self.run_fenced(partition, term, &call).await?.head()
    }

    async fn release(&self, partition: Partition, term: Term) -> Result<(), StoreError> {
        let keys = Keys::new(partition);
        let mut call = SCRIPTS.release.on(&[&keys.m, &keys.lease]);
        call.arg(term.to_string());
        self.run(partition, &call).await.map(drop)
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
        let mut answer = Answer::new(self.run(partition, &call).await?)?;
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
        self.run(partition, &call).await.map(drop)
    }

    async fn get_blob(
        &self,
        partition: Partition,
        name: &str,
    ) -> Result<Option<Bytes>, StoreError> {
        let mut call = ::redis::cmd("GET");
        call.arg(Keys::blob(partition, name));
        match self.run(partition, &call).await? {
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
        self.run_fenced(partition, term, &call).await.map(drop)
    }

    async fn list_blobs(
        &self,
        partition: Partition,
        prefix: &str,
    ) -> Result<Vec<String>, StoreError> {
        let key = Keys::new(partition).blobs;
        let mut names = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let mut call = ::redis::cmd("SSCAN");
            call.arg(&key).arg(cursor).arg("COUNT").arg(1000);
            let page = self.run(partition, &call).await?;
            let (next, some): (u64, Vec<String>) =
                ::redis::from_redis_value(page).map_err(::redis::RedisError::from)?;
            names.extend(some.into_iter().filter(|name| name.starts_with(prefix)));
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        names.sort_unstable();
        names.dedup();
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
        let mut answer = Answer::new(self.run(partition, &call).await?)?;
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
        match self.run(partition, &call).await? {
            Value::Array(values) if values.iter().all(|value| *value == Value::Nil) => Ok(None),
            found => {
                let mut answer = Answer::new(found)?;
                Ok(Some((answer.head()?, answer.bytes()?)))
            }
        }
    }
}
