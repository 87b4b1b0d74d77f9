//! A cluster at work, whose state is moved.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kahn_core::log::{Append, Head, Reply};
use kahn_core::testing::{World, dag, exit_code};
use kahn_core::{Core, Outbox, Settings, Snapshot};
use kahn_model::{Outputs, Partition};
use kahn_store::{
    Acquired, Batch, Claim, Export, Import, LogStore, Record, RecordDecoder, codec, link,
};

use crate::support::owner;

pub(crate) const N_PARTITIONS: u16 = 4;

/// A cluster at work on a store that it owns.
pub(crate) struct Source {
    pub(crate) world: World,
    pub(crate) store: Arc<dyn LogStore>,
    outbox: Outbox<()>,
    n_written: usize,
    pub(crate) owned: Vec<Acquired>,
}

impl Source {
    /// Starts a cluster, which has checkpoints of some partitions, and changes after them.
    pub(crate) async fn start(store: Arc<dyn LogStore>) -> Self {
        let settings = Settings { partitions: N_PARTITIONS, ..Settings::default() };
        let mut owned = Vec::new();
        for partition in partitions() {
            store.put_blob(partition, "stray", "nothing refers to it".into()).await.unwrap();
            owned.push(store.acquire(partition, &owner(1), Claim::Force).await.unwrap());
        }
        let outbox = Outbox::new(N_PARTITIONS);
        let mut source = Self { world: World::with(settings), store, outbox, n_written: 0, owned };
        source.work("before").await;
        for partition in [Partition(0), Partition(1)] {
            source.checkpoint(partition).await;
        }
        source.work("after").await;
        source
    }

    /// Submits runs, some of them too large for a record. Some end, some have attempts that run.
    pub(crate) async fn work(&mut self, name: &str) {
        self.world.attach(&format!("worker-{name}"), "cpu=3");
        let argument = format!("{name} ").repeat(codec::INLINE_BYTES_MAX);
        let large = dag().task("a").exec(&["echo", &argument]).task("b").after("a").build();
        for n in 0..8 {
            let small = dag().task("a").attempts(3, Duration::from_secs(9)).task("b").after("a");
            let run = self.world.submit(&if n % 2 == 0 { small.build() } else { large.clone() });
            let names: Vec<String> = self.world.workers.keys().cloned().collect();
            for worker in names {
                let Some(attempt) = self.world.held(&worker, run, "a") else { continue };
                self.world.start(&worker, attempt);
                match n % 4 {
                    0 => self.world.finish(&worker, attempt, Err(exit_code(1))),
                    1 | 2 => self.world.finish(&worker, attempt, Ok(Outputs::default())),
                    _ => {}
                }
            }
        }
        self.write().await;
    }

    /// Writes the changes since the last call, one batch for each.
    async fn write(&mut self) {
        let log: Vec<_> = self.world.log[self.n_written..].to_vec();
        self.n_written = self.world.log.len();
        for (at, change) in log {
            self.outbox.accept(at, vec![change]);
            for batch in self.outbox.take_batches() {
                self.append(batch.partition, codec::encode_batch(&batch.changes).into()).await;
                self.outbox.committed(batch.partition, batch.number);
            }
        }
    }

    async fn append(&mut self, partition: Partition, payload: Batch) {
        let acquired = &mut self.owned[usize::from(partition.0)];
        let prev = acquired.head;
        let next = Head { seq: prev.seq + 1, hash: link(prev.hash, &payload.payload) };
        let append = Append { send: 1, prev, next, payload };
        let done = self.store.append(partition, acquired.term, append).await;
        assert_eq!(done.reply, Reply::Applied);
        acquired.head = next;
    }

    pub(crate) async fn checkpoint(&self, partition: Partition) {
        let encoded = codec::encode_snapshot(&self.world.core.state().snapshot(partition));
        for (name, bytes) in encoded.blobs {
            self.store.put_blob(partition, &name, bytes).await.unwrap();
        }
        let Acquired { term, head } = self.owned[usize::from(partition.0)];
        self.store.checkpoint(partition, term, head.seq, encoded.payload).await.unwrap();
    }

    /// Removes the blobs that the checkpoint does not refer to, as an owner does.
    pub(crate) async fn delete_unreferenced(&self, partition: Partition) {
        let (_, manifest) = self.store.load_checkpoint(partition).await.unwrap().unwrap();
        let named: BTreeSet<_> =
            codec::snapshot_blob_names(&manifest).unwrap().into_iter().collect();
        let all = self.store.list_blobs(partition, "").await.unwrap();
        let rest: Vec<_> = all.into_iter().filter(|name| !named.contains(name)).collect();
        let term = self.owned[usize::from(partition.0)].term;
        self.store.delete_blobs(partition, term, &rest).await.unwrap();
    }
}

pub(crate) fn partitions() -> impl Iterator<Item = Partition> {
    (0..N_PARTITIONS).map(Partition)
}

pub(crate) type Exported = Vec<Vec<Record>>;

/// Exports all partitions, through the bytes of their records.
pub(crate) async fn export(store: &Arc<dyn LogStore>) -> Exported {
    let mut all = Vec::new();
    for partition in partitions() {
        let mut export = Export::begin(Arc::clone(store), partition).await.unwrap();
        let (mut decoder, mut records) = (RecordDecoder::new(u64::MAX), Vec::new());
        while let Some(record) = export.next().await.unwrap() {
            decoder.push(&record.encode()).unwrap();
            records.push(decoder.next_record().unwrap().unwrap());
        }
        decoder.finish().unwrap();
        all.push(records);
    }
    all
}

/// Imports in pieces of two records each.
pub(crate) async fn import(into: &dyn Import, exported: &Exported) {
    for (partition, records) in partitions().zip(exported) {
        for pair in records.chunks(2) {
            into.write(partition, pair.to_vec()).await.unwrap();
        }
    }
    into.complete().await.unwrap();
}

/// Builds the state of each partition from its records.
pub(crate) fn state(exported: &Exported) -> Vec<Snapshot> {
    let of = |(partition, records): (Partition, &Vec<Record>)| {
        let settings = Settings { partitions: N_PARTITIONS, ..Settings::default() };
        let (mut core, mut blobs) = (Core::new(settings), Vec::new());
        let fetch = |blobs: &[(String, Bytes)], name: &str| {
            let found = blobs.iter().find(|(known, _)| known == name);
            found.map(|(_, b)| b.clone()).ok_or(codec::CodecError::MissingBlob(name.to_owned()))
        };
        for record in records.iter().cloned() {
            match record {
                Record::Blob { name, bytes } => blobs.push((name, bytes)),
                Record::Checkpoint { manifest, .. } => {
                    core.restore(codec::decode_snapshot(&manifest, |n| fetch(&blobs, n)).unwrap());
                }
                Record::Entry { payload, .. } => {
                    let changes = codec::decode_batch(&payload, |n| fetch(&blobs, n)).unwrap();
                    changes.iter().for_each(|(at, change)| core.replay(*at, change));
                }
                Record::End(_) => {}
            }
        }
        core.state().snapshot(partition)
    };
    partitions().zip(exported).map(of).collect()
}
