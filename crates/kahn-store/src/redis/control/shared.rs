//! One connection that many operations use at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, RedisResult, Value};
use tokio::sync::Mutex;

use crate::error::StoreError;
use crate::redis::link::send;
use crate::redis::replicate::{Replicas, wait_count};
use crate::redis::reply::is_declined;

/// A connection, and what replicas have received of the writes over it.
#[derive(Clone)]
pub(super) struct SharedConnection {
    connection: MultiplexedConnection,
    is_asking: bool,
    writes: Arc<Writes>,
}

#[derive(Default)]
struct Writes {
    n_answered: AtomicU64,
    /// Held while the replicas are waited for, so that it is done once for all who wait.
    waited: Mutex<Waited>,
}

/// The last wait for the replicas.
#[derive(Clone, Copy, Default)]
struct Waited {
    /// The number of writes that were answered before it.
    n_covered: u64,
    n_replicas: u32,
}

impl SharedConnection {
    pub(super) fn new(connection: MultiplexedConnection, is_asking: bool) -> Self {
        Self { connection, is_asking, writes: Arc::default() }
    }

    /// Returns whether both are the same connection.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.writes, &other.writes)
    }

    /// Sends a command, and returns its answer or the error with which it was refused.
    pub(super) async fn send(&self, call: Cmd) -> RedisResult<Value> {
        send(&mut self.connection.clone(), call, self.is_asking).await
    }

    /// Sends a script that writes, and waits until the replicas have received what it has written.
    pub(super) async fn write(&self, call: &Cmd, replicas: Replicas) -> Result<Value, StoreError> {
        let done = self.send(call.clone()).await?;
        // A script that was not carried out has written nothing for which replicas could be counted.
        if replicas.wanted != 0 && !is_declined(&done) {
            self.wait(replicas).await?;
        }
        Ok(done)
    }

    async fn wait(&self, replicas: Replicas) -> Result<(), StoreError> {
        let own = self.writes.n_answered.fetch_add(1, Ordering::SeqCst) + 1;
        let mut waited = self.writes.waited.lock().await;
        if waited.n_covered < own {
            let n_covered = self.writes.n_answered.load(Ordering::SeqCst);
            let answer = send(&mut self.connection.clone(), replicas.wait(), false).await?;
            *waited = Waited { n_covered, n_replicas: wait_count(answer)? };
        }
        replicas.check(waited.n_replicas)
    }
}
