//! Tests of checkpoints and the removal of blobs, with an in-memory store.

use std::collections::BTreeSet;
use std::time::Duration;

use kahn_core::testing::{World, dag};
use kahn_core::{Change, Event};
use kahn_model::{Dag, RunId};
use kahn_runtime::health::Readiness;
use kahn_runtime::metrics::Metrics;
use kahn_store::{Claim, ClusterId, ClusterMeta, MemoryStore, Owner};

use super::*;
use crate::config::MetricsConfig;

const PARTITION: Partition = Partition(0);

/// A core and an in-memory partition that takes checkpoints as often as possible.
struct Rig {
    world: World,
    store: Arc<dyn LogStore>,
    durable: Durable,
    inbox: mpsc::Receiver<Input>,
    stats: Stats,
    n_batches: u64,
    n_appended: usize,
}

impl Rig {
    async fn new() -> Self {
        let meta = ClusterMeta { id: ClusterId(1), partitions: 1 };
        let store: Arc<dyn LogStore> = Arc::new(MemoryStore::new(meta));
        let acquired =
            store.acquire(PARTITION, &Owner::without_address(1), Claim::Force).await.unwrap();
        let (tx, inbox) = mpsc::channel(64);
        let mut durable = Durable::new(Arc::clone(&store), tx.clone(), Instant::now());
        durable.checkpoint_after = 0;
        let events = move |event| tx.try_send(Input::Log(event)).unwrap();
        let (term, head) = (acquired.term, acquired.head);
        durable.add(term, Appender::spawn(Arc::clone(&store), PARTITION, term, head, events), 0);
        let stats = Stats::new(&Metrics::new(), Readiness::new(), &MetricsConfig::default());
        let world = World::new();
        Self { world, store, durable, inbox, stats, n_batches: 0, n_appended: 0 }
    }

    /// Appends the core's changes since the last call.
    fn append(&mut self) {
        let changes = self.world.log[self.n_appended..].to_vec();
        self.n_appended = self.world.log.len();
        self.append_changes(changes);
    }

    fn append_changes(&mut self, changes: Vec<(kahn_model::Timestamp, Change)>) {
        self.n_batches += 1;
        // Makes a checkpoint due regardless of the size of the last one.
        self.entry().checkpoint_bytes = 0;
        let batch = kahn_core::Batch { partition: PARTITION, number: self.n_batches, changes };
        self.durable.append(batch, Timestamp::ZERO, &self.world.core, &self.stats);
    }

    /// Handles inputs until everything is durable and no checkpoint is in progress.
    async fn run_until_durable(&mut self) {
        while self.entry().is_checkpointing || !self.entry().in_flight.is_empty() {
            let input = tokio::time::timeout(Duration::from_secs(10), self.inbox.recv());
            match input.await.unwrap().unwrap() {
                Input::Log(event) => {
                    let _ = self.durable.on_event(Timestamp::ZERO, event, &mut self.stats);
                }
                Input::Checkpointed { partition, seq, written } => {
                    self.durable.checkpointed(partition, seq, written);
                }
                Input::Swept { partition } => self.durable.swept(partition),
                _ => {}
            }
        }
    }

    fn entry(&mut self) -> &mut OnePartition {
        &mut self.durable.partitions[0]
    }

    async fn blobs(&self) -> BTreeSet<String> {
        self.store.list_blobs(PARTITION, "").await.unwrap().into_iter().collect()
    }

    fn end(&mut self, run: RunId) {
        self.world.accept(Event::CancelRequested { run, reason: "enough".into() });
        self.world.accept(Event::RunExpired { run });
    }
}

/// Builds a DAG too large to be stored inline. DAGs with different names have different contents.
fn large_dag(name: &str) -> Arc<Dag> {
    let argument = format!("{name} ").repeat(codec::INLINE_BYTES_MAX);
    dag().task(name).exec(&["echo", &argument]).build()
}

#[tokio::test]
async fn blobs_of_a_removed_run_are_removed_while_the_coordinator_runs() {
    let mut rig = Rig::new().await;
    let removed = rig.world.submit(&large_dag("removed"));
    rig.append();
    rig.run_until_durable().await;
    let of_removed = rig.blobs().await;
    assert!(!of_removed.is_empty());

    rig.world.submit(&large_dag("kept"));
    rig.append();
    rig.run_until_durable().await;
    let of_kept = &rig.blobs().await - &of_removed;

    rig.end(removed);
    rig.append();
    rig.run_until_durable().await;
    let left = rig.blobs().await;
    assert!(!of_kept.is_empty() && left.iter().any(|name| of_kept.contains(name)));
    assert!(left.is_disjoint(&of_removed), "{left:?}");
}

#[tokio::test]
async fn a_batch_that_names_a_blob_under_removal_waits_and_writes_it_again() {
    let mut rig = Rig::new().await;
    rig.world.submit(&large_dag("one"));
    let submitted = rig.world.log.clone();
    let names = codec::encode_batch(&submitted).blobs.into_iter().map(|(name, _)| name);
    rig.entry().sweeping = names.collect();
    rig.entry().is_checkpointing = true;

    rig.append();
    rig.append_changes(vec![submitted[0].clone()]);
    assert!(rig.entry().in_flight.is_empty(), "both batches wait, in order");
    assert!(rig.blobs().await.is_empty());

    let names = rig.entry().sweeping.clone();
    rig.durable.swept(PARTITION);
    rig.run_until_durable().await;
    assert!(names.is_subset(&rig.blobs().await));
}

#[tokio::test]
async fn a_blob_named_since_the_checkpoint_was_taken_is_kept() {
    let mut rig = Rig::new().await;
    rig.entry().named = BTreeSet::from(["named".to_owned()]);
    rig.entry().is_checkpointing = true;
    let unnamed = vec!["named".to_owned(), "unnamed".to_owned()];
    rig.durable.checkpointed(PARTITION, 0, Some(Written { bytes: 1, unnamed }));
    assert_eq!(rig.entry().sweeping, BTreeSet::from(["unnamed".to_owned()]));
}

#[tokio::test]
async fn a_partition_that_is_read_keeps_its_log_and_blobs_but_not_for_ever() {
    let mut rig = Rig::new().await;
    let hold = rig.durable.holds().hold(PARTITION);
    let removed = rig.world.submit(&large_dag("removed"));
    rig.append();
    rig.run_until_durable().await;
    rig.end(removed);
    rig.append();
    rig.run_until_durable().await;
    assert_eq!(rig.store.load_checkpoint(PARTITION).await.unwrap(), None);

    rig.entry().grown = HELD_BYTES_MAX;
    rig.world.submit(&dag().task("small").build());
    rig.append();
    rig.run_until_durable().await;
    assert!(rig.store.load_checkpoint(PARTITION).await.unwrap().is_some());
    let is_there = async |rig: &Rig| {
        let of_removed = codec::encode_batch(&rig.world.log[..1]).blobs;
        let blobs = rig.blobs().await;
        of_removed.iter().all(|(name, _)| blobs.contains(name))
    };
    assert!(is_there(&rig).await, "a blob that may be read was removed");

    drop(hold);
    rig.world.submit(&dag().task("smaller").build());
    rig.append();
    rig.run_until_durable().await;
    assert!(!is_there(&rig).await, "what was kept is not found again");
}
