//! Stores under test, and helpers.

use std::sync::Arc;

use bytes::Bytes;
use kahn_core::log::{Append, Head, Reply, Term};
use kahn_model::Partition;
use kahn_store::testing::RedisServer;
use kahn_store::{
    Acquired, AppendEvent, Appender, Batch, ClusterId, ClusterMeta, Durability, EmbeddedStore,
    EndReason, LogStore, MemoryStore, Owner, RedisConfig, RedisStore, StoreError, link,
};
use tempfile::TempDir;
use tokio::sync::mpsc;

pub(crate) const P0: Partition = Partition(0);

pub(crate) fn cluster(partitions: u16) -> ClusterMeta {
    ClusterMeta { id: ClusterId(0xfeed), partitions }
}

/// One kind of store, initially empty, which can be opened repeatedly.
pub(crate) enum Fixture {
    Memory(MemoryStore),
    Embedded(TempDir, Durability),
    Redis(RedisServer),
    /// Servers that outlive the fixture.
    Served(RedisConfig),
}

impl Fixture {
    pub(crate) fn memory() -> Self {
        Self::Memory(MemoryStore::new(cluster(4)))
    }

    pub(crate) fn embedded(durability: Durability) -> Self {
        Self::Embedded(tempfile::tempdir().unwrap(), durability)
    }

    pub(crate) fn redis() -> Self {
        Self::Redis(RedisServer::start("everysec"))
    }

    pub(crate) async fn try_open(&self, partitions: u16) -> Result<Arc<dyn LogStore>, StoreError> {
        Ok(match self {
            Self::Memory(store) => Arc::new(store.reopen(cluster(partitions))?),
            Self::Embedded(dir, durability) => {
                Arc::new(EmbeddedStore::open(dir.path(), cluster(partitions), *durability)?)
            }
            Self::Redis(server) => redis(&server.url(), cluster(partitions)).await?,
            Self::Served(config) => open(config, cluster(partitions)).await?,
        })
    }

    pub(crate) async fn open(&self) -> Arc<dyn LogStore> {
        self.try_open(4).await.unwrap()
    }
}

pub(crate) async fn redis(url: &str, meta: ClusterMeta) -> Result<Arc<dyn LogStore>, StoreError> {
    open(&RedisConfig::new(url), meta).await
}

pub(crate) async fn open(
    config: &RedisConfig,
    meta: ClusterMeta,
) -> Result<Arc<dyn LogStore>, StoreError> {
    Ok(Arc::new(RedisStore::open(config, meta).await?))
}

pub(crate) fn owner(nonce: u64) -> Owner {
    Owner { nonce, address: format!("http://host-{nonce}:7400") }
}

pub(crate) fn after(prev: Head, payload: &[u8]) -> Head {
    Head { seq: prev.seq + 1, hash: link(prev.hash, payload) }
}

/// Creates an append of `payload` on top of `prev`.
pub(crate) fn on_top(prev: Head, payload: &'static [u8]) -> Append<Batch> {
    Append { send: 7, prev, next: after(prev, payload), payload: Batch::new(payload) }
}

/// Appends each payload and returns the last head.
pub(crate) async fn fill(
    store: &dyn LogStore,
    acquired: Acquired,
    payloads: &[&'static [u8]],
) -> Head {
    let mut head = acquired.head;
    for payload in payloads {
        let append = on_top(head, payload);
        let next = append.next;
        check_append(store, acquired.term, append, Reply::Applied).await;
        head = next;
    }
    head
}

pub(crate) async fn check_append(
    store: &dyn LogStore,
    term: Term,
    append: Append<Batch>,
    expected: Reply,
) {
    let done = store.append(P0, term, append).await;
    assert_eq!((done.send, done.reply), (7, expected), "{:?}", done.cause);
}

/// Reads all entries and checks that they form an unbroken chain from `from`.
pub(crate) async fn read_all(store: &dyn LogStore, from: Head) -> Vec<Bytes> {
    let (mut head, mut payloads) = (from, Vec::new());
    loop {
        let page = store.read(P0, head.seq, 100_000).await.unwrap();
        if page.is_empty() {
            return payloads;
        }
        for (next, payload) in page {
            assert_eq!(next, after(head, &payload), "a break in the chain");
            head = next;
            payloads.push(payload);
        }
    }
}

/// An appender and the events it has sent.
pub(crate) struct Watched {
    pub(crate) appender: Appender,
    events: mpsc::Receiver<AppendEvent>,
    pub(crate) pushed: Vec<Bytes>,
    pub(crate) missing: u64,
}

impl Watched {
    pub(crate) fn spawn(store: &Arc<dyn LogStore>, acquired: Acquired) -> Self {
        let (tx, events) = mpsc::channel(10_000);
        let tell = move |event| tx.try_send(event).unwrap();
        let Acquired { term, head } = acquired;
        let appender = Appender::spawn(Arc::clone(store), P0, term, head, tell);
        Self { appender, events, pushed: Vec::new(), missing: 0 }
    }

    pub(crate) fn push(&mut self, payload: impl Into<Bytes>) -> u64 {
        let payload = payload.into();
        self.pushed.push(payload.clone());
        self.appender.push(Batch::new(payload)).unwrap()
    }

    pub(crate) async fn event(&mut self) -> AppendEvent {
        let event = self.events.recv().await.unwrap();
        if let AppendEvent::TailLost { missing, .. } = event {
            self.missing += missing;
        }
        event
    }

    /// Returns the next event that has already been sent.
    pub(crate) fn waiting_event(&mut self) -> Option<AppendEvent> {
        self.events.try_recv().ok()
    }

    pub(crate) async fn committed(&mut self, seq: u64) {
        loop {
            match self.event().await {
                AppendEvent::Committed { through_seq, .. } if seq <= through_seq => return,
                AppendEvent::Ended { reason, .. } => panic!("ended before {seq}: {reason:?}"),
                _ => {}
            }
        }
    }

    pub(crate) async fn troubled(&mut self) -> String {
        loop {
            if let AppendEvent::Troubled { cause, .. } = self.event().await {
                return cause;
            }
        }
    }

    pub(crate) async fn ended(&mut self) -> EndReason {
        loop {
            if let AppendEvent::Ended { reason, .. } = self.event().await {
                return reason;
            }
        }
    }

    /// Pushes one more batch, waits for it, and checks that the log contains everything pushed.
    pub(crate) async fn check_complete(&mut self, store: &dyn LogStore) {
        let last = self.push("the last");
        self.committed(last).await;
        assert_eq!(read_all(store, Head::GENESIS).await, self.pushed);
    }
}
