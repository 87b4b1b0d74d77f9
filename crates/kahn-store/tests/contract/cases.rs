//! The contract of all stores: the same cases for memory, the embedded store and Redis.

use std::time::Duration;

use crate::support::{Fixture, P0, Watched, after, check_append, fill, on_top, owner, read_all};
use bytes::Bytes;
use kahn_core::log::{Append, Hash, Head, Reply};
use kahn_model::Partition;
use kahn_store::testing::{RedisCluster, SentinelSetup};
use kahn_store::{Batch, Claim, Durability, EndReason, Owner, RedisConfig, StoreError};

/// Generates one test per case, for each kind of store.
macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Fixture::memory()).await;
            })*
        }
        mod embedded_process {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Fixture::embedded(super::Durability::Process)).await;
            })*
        }
        mod embedded_disk {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Fixture::embedded(super::Durability::Disk)).await;
            })*
        }
        mod redis {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Fixture::redis()).await;
            })*
        }

        /// Checks all cases one after the other, each with a fixture that `next` makes. Servers that
        /// take long to start are used for all of them.
        async fn check_all(mut next: impl FnMut(&str) -> Fixture) {
            $(eprintln!("case {}", stringify!($case));
            $case(next(stringify!($case))).await;)*
        }
    };
}

contract!(
    entries_come_back_in_order,
    an_append_elsewhere_is_told_where_the_log_stands,
    the_same_append_again_is_recognised,
    a_deposed_writer_is_refused,
    a_held_partition_is_taken_only_by_force,
    a_released_partition_is_free_at_once,
    a_renewal_tells_the_head,
    reading_goes_page_by_page,
    a_checkpoint_replaces_the_entries_it_covers,
    a_checkpoint_where_nothing_stands_is_refused,
    blobs_come_with_their_batch,
    blobs_are_listed_and_deleted,
    blobs_of_two_partitions_are_apart,
    another_number_of_partitions_is_refused,
    what_was_written_is_found_again,
    an_appender_commits_all_in_order,
    an_appender_carries_large_batches,
    a_deposed_appender_ends,
    a_closed_appender_releases_the_partition,
);

#[tokio::test]
async fn every_case_holds_behind_sentinels() {
    let setup = SentinelSetup::start(&["--appendonly", "yes"]);
    let mut databases = 0..;
    check_all(|_| {
        let url = setup.url(databases.next().unwrap());
        Fixture::Served(RedisConfig::new(url))
    })
    .await;
}

#[tokio::test]
async fn every_case_holds_in_a_cluster() {
    let cluster = RedisCluster::start(&["--appendonly", "yes"]);
    check_all(|_| {
        for node in cluster.nodes.iter().filter(|node| node.is_master()) {
            node.run(&["FLUSHALL", "SYNC"]);
        }
        Fixture::Served(RedisConfig::new(cluster.url()))
    })
    .await;
}

#[tokio::test]
async fn every_case_holds_when_replicas_must_have_each_write() {
    let args = ["--appendonly", "yes", "--appendfsync", "always", "--min-replicas-to-write", "1"];
    let setup = SentinelSetup::start(&args);
    let mut databases = 0..;
    check_all(|_| {
        let url = setup.url(databases.next().unwrap());
        Fixture::Served(patient(RedisConfig { replicas: 2, ..RedisConfig::new(url) }))
    })
    .await;
}

/// A disk may be busy for longer than replicas are usually waited for. No case waits for a lease.
fn patient(config: RedisConfig) -> RedisConfig {
    let (response_timeout, lease_ttl) = (Duration::from_secs(20), Duration::from_secs(40));
    RedisConfig { response_timeout, lease_ttl, ..config }
}

async fn entries_come_back_in_order(fixture: Fixture) {
    let store = fixture.open().await;
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    assert_eq!((acquired.term.epoch, acquired.head), (1, Head::GENESIS));
    fill(&*store, acquired, &[b"a", b"", b"c\0\r\n"]).await;
    assert_eq!(read_all(&*store, Head::GENESIS).await, [&b"a"[..], b"", b"c\0\r\n"]);
    assert!(store.read(Partition(1), 0, 1000).await.unwrap().is_empty());
}

async fn an_append_elsewhere_is_told_where_the_log_stands(fixture: Fixture) {
    let store = fixture.open().await;
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    let ahead = on_top(after(Head::GENESIS, b"a"), b"b");
    check_append(&*store, acquired.term, ahead, Reply::Behind(Head::GENESIS)).await;
    let head = fill(&*store, acquired, &[b"a", b"b"]).await;
    let behind = on_top(Head::GENESIS, b"a");
    check_append(&*store, acquired.term, behind, Reply::Behind(head)).await;
    let foreign = on_top(Head { seq: 2, hash: Hash([9; 16]) }, b"c");
    check_append(&*store, acquired.term, foreign, Reply::Behind(head)).await;
    let other = on_top(after(Head::GENESIS, b"a"), b"other");
    check_append(&*store, acquired.term, other, Reply::Behind(head)).await;
    assert_eq!(read_all(&*store, Head::GENESIS).await, ["a", "b"]);
}

async fn the_same_append_again_is_recognised(fixture: Fixture) {
    let store = fixture.open().await;
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    let head = fill(&*store, acquired, &[b"a"]).await;
    let again = on_top(head, b"b");
    check_append(&*store, acquired.term, again.clone(), Reply::Applied).await;
    check_append(&*store, acquired.term, again, Reply::Duplicate).await;
    assert_eq!(read_all(&*store, Head::GENESIS).await, ["a", "b"]);
}

async fn a_deposed_writer_is_refused(fixture: Fixture) {
    let store = fixture.open().await;
    let old = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    let head = fill(&*store, old, &[b"a"]).await;
    let new = store.acquire(P0, &owner(2), Claim::Force).await.unwrap();
    assert_eq!((new.term.epoch, new.head), (2, head));
    check_append(&*store, old.term, on_top(head, b"late"), Reply::Fenced).await;
    let fenced = |result: Result<(), StoreError>| matches!(result, Err(StoreError::Fenced { .. }));
    assert!(fenced(store.renew(P0, old.term).await.map(drop)));
    assert!(fenced(store.checkpoint(P0, old.term, 1, Bytes::new()).await));
    assert!(fenced(store.delete_blobs(P0, old.term, &["x".to_owned()]).await));
    store.release(P0, old.term).await.unwrap();
    assert!(matches!(
        store.acquire(P0, &owner(3), Claim::IfFree).await,
        Err(StoreError::Held { holder: Owner { nonce: 2, .. }, .. })
    ));
    check_append(&*store, new.term, on_top(head, b"b"), Reply::Applied).await;
}

async fn a_held_partition_is_taken_only_by_force(fixture: Fixture) {
    let store = fixture.open().await;
    store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    for claim in [Claim::IfFree, Claim::Succeeding(3)] {
        match store.acquire(P0, &owner(2), claim).await {
            Err(StoreError::Held { partition: P0, holder }) => assert_eq!(holder, owner(1)),
            other => panic!("{claim:?}: {other:?}"),
        }
    }
    assert_eq!(store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap().term.epoch, 2);
    assert_eq!(store.acquire(P0, &owner(2), Claim::Force).await.unwrap().term.epoch, 3);
    assert_eq!(store.acquire(Partition(1), &owner(1), Claim::IfFree).await.unwrap().term.epoch, 1);
    let succeeding = store.acquire(P0, &owner(3), Claim::Succeeding(2)).await.unwrap();
    assert_eq!(succeeding.term.epoch, 4);
    // A renewal keeps the address.
    store.renew(P0, succeeding.term).await.unwrap();
    let held = store.acquire(P0, &owner(4), Claim::IfFree).await;
    assert!(matches!(held, Err(StoreError::Held { holder, .. }) if holder == owner(3)));
}

async fn a_released_partition_is_free_at_once(fixture: Fixture) {
    let store = fixture.open().await;
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    store.release(P0, acquired.term).await.unwrap();
    assert_eq!(store.acquire(P0, &owner(2), Claim::IfFree).await.unwrap().term.epoch, 2);
}

async fn a_renewal_tells_the_head(fixture: Fixture) {
    let store = fixture.open().await;
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    assert_eq!(store.renew(P0, acquired.term).await.unwrap(), Head::GENESIS);
    let head = fill(&*store, acquired, &[b"a"]).await;
    assert_eq!(store.renew(P0, acquired.term).await.unwrap(), head);
}

async fn reading_goes_page_by_page(fixture: Fixture) {
    let store = fixture.open().await;
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    fill(&*store, acquired, &[b"aaaa", b"bbbb", b"cccc", b"dddddddddd"]).await;
    let seqs = async |after, bytes_max| -> Vec<u64> {
        let page = store.read(P0, after, bytes_max).await.unwrap();
        page.into_iter().map(|(head, _)| head.seq).collect()
    };
    assert_eq!(seqs(0, 10).await, [1, 2]);
    assert_eq!(seqs(2, 10).await, [3]);
    assert_eq!(seqs(3, 1).await, [4]);
    assert_eq!(seqs(4, 10).await, [0; 0]);
    assert_eq!(seqs(1, 1000).await, [2, 3, 4]);
}

async fn a_checkpoint_replaces_the_entries_it_covers(fixture: Fixture) {
    let store = fixture.open().await;
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    assert_eq!(store.load_checkpoint(P0).await.unwrap(), None);
    let two = fill(&*store, acquired, &[b"a", b"b"]).await;
    let three = fill(&*store, kahn_store::Acquired { head: two, ..acquired }, &[b"c"]).await;
    store.checkpoint(P0, acquired.term, 2, "upto b".into()).await.unwrap();
    assert_eq!(store.load_checkpoint(P0).await.unwrap(), Some((two, "upto b".into())));
    assert_eq!(read_all(&*store, two).await, ["c"]);
    assert_eq!(store.read(P0, 0, 1000).await.unwrap().len(), 1);
    store.checkpoint(P0, acquired.term, 2, "again".into()).await.unwrap();
    store.checkpoint(P0, acquired.term, 3, "all".into()).await.unwrap();
    assert_eq!(store.load_checkpoint(P0).await.unwrap(), Some((three, "all".into())));
    assert!(store.read(P0, 0, 1000).await.unwrap().is_empty());
    check_append(&*store, acquired.term, on_top(three, b"d"), Reply::Applied).await;
    assert_eq!(store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap().head, after(three, b"d"));
}

async fn a_checkpoint_where_nothing_stands_is_refused(fixture: Fixture) {
    let store = fixture.open().await;
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    fill(&*store, acquired, &[b"a", b"b"]).await;
    for seq in [0, 3] {
        let refused = store.checkpoint(P0, acquired.term, seq, Bytes::new()).await;
        assert!(matches!(refused, Err(StoreError::NoEntry { .. })), "{seq}: {refused:?}");
    }
    store.checkpoint(P0, acquired.term, 2, Bytes::new()).await.unwrap();
    let backwards = store.checkpoint(P0, acquired.term, 1, Bytes::new()).await;
    assert!(matches!(backwards, Err(StoreError::NoEntry { seq: 1, .. })));
}

async fn blobs_come_with_their_batch(fixture: Fixture) {
    let store = fixture.open().await;
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    let blobs = vec![("spec/1".to_owned(), "one".into()), ("spec/2".to_owned(), "two".into())];
    let batch = Batch { payload: "a".into(), blobs };
    assert_eq!(batch.size(), 7);
    let next = after(Head::GENESIS, b"a");
    let append = Append { send: 7, prev: Head::GENESIS, next, payload: batch };
    check_append(&*store, acquired.term, append.clone(), Reply::Applied).await;
    assert_eq!(store.get_blob(P0, "spec/2").await.unwrap(), Some("two".into()));
    let mut elsewhere = Append { prev: Head { seq: 5, hash: next.hash }, ..append };
    elsewhere.next.seq = 6;
    elsewhere.payload.blobs[0].0 = "spec/3".to_owned();
    check_append(&*store, acquired.term, elsewhere, Reply::Behind(next)).await;
    assert_eq!(store.list_blobs(P0, "").await.unwrap(), ["spec/1", "spec/2"]);
}

async fn blobs_are_listed_and_deleted(fixture: Fixture) {
    let store = fixture.open().await;
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    for name in ["b/2", "a/1", "b/1", "c"] {
        store.put_blob(P0, name, Bytes::from(name)).await.unwrap();
    }
    store.put_blob(P0, "b/1", Bytes::from_static(b"\0new")).await.unwrap();
    assert_eq!(store.get_blob(P0, "b/1").await.unwrap(), Some(Bytes::from_static(b"\0new")));
    assert_eq!(store.list_blobs(P0, "b/").await.unwrap(), ["b/1", "b/2"]);
    let gone = ["b/1".to_owned(), "never".to_owned()];
    store.delete_blobs(P0, acquired.term, &gone).await.unwrap();
    store.delete_blobs(P0, acquired.term, &[]).await.unwrap();
    assert_eq!(store.get_blob(P0, "b/1").await.unwrap(), None);
    assert_eq!(store.list_blobs(P0, "").await.unwrap(), ["a/1", "b/2", "c"]);
}

async fn blobs_of_two_partitions_are_apart(fixture: Fixture) {
    let store = fixture.open().await;
    store.put_blob(P0, "x", "here".into()).await.unwrap();
    assert_eq!(store.get_blob(Partition(1), "x").await.unwrap(), None);
    assert!(store.list_blobs(Partition(1), "").await.unwrap().is_empty());
}

async fn another_number_of_partitions_is_refused(fixture: Fixture) {
    let store = fixture.open().await;
    assert_eq!(store.meta(), crate::support::cluster(4));
    let beyond = store.acquire(Partition(4), &owner(1), Claim::IfFree).await;
    assert!(matches!(beyond, Err(StoreError::NoPartition { count: 4, .. })), "{beyond:?}");
    drop(store);
    let refused = fixture.try_open(8).await;
    assert!(
        matches!(refused, Err(StoreError::PartitionCount { found: 4, wanted: 8 })),
        "{refused:?}"
    );
}

async fn what_was_written_is_found_again(fixture: Fixture) {
    let store = fixture.open().await;
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    let head = fill(&*store, acquired, &[b"a", b"b"]).await;
    store.put_blob(P0, "x", "blob".into()).await.unwrap();
    store.checkpoint(P0, acquired.term, 1, "one".into()).await.unwrap();
    drop(store);
    let store = fixture.open().await;
    let next = store.acquire(P0, &owner(2), Claim::Force).await.unwrap();
    assert_eq!((next.term.epoch, next.head), (2, head));
    let one = after(Head::GENESIS, b"a");
    assert_eq!(store.load_checkpoint(P0).await.unwrap(), Some((one, "one".into())));
    assert_eq!(read_all(&*store, one).await, ["b"]);
    assert_eq!(store.get_blob(P0, "x").await.unwrap(), Some("blob".into()));
}

async fn an_appender_commits_all_in_order(fixture: Fixture) {
    let store = fixture.open().await;
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    let mut watched = Watched::spawn(&store, acquired);
    for n in 1..=200_u64 {
        assert_eq!(watched.push(format!("batch {n}")), n);
    }
    watched.committed(200).await;
    watched.appender.checkpointed(100).unwrap();
    watched.check_complete(&*store).await;
}

async fn an_appender_carries_large_batches(fixture: Fixture) {
    let store = fixture.open().await;
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    let mut watched = Watched::spawn(&store, acquired);
    for byte in 0..4 {
        watched.push(vec![byte; 1 << 20]);
    }
    watched.check_complete(&*store).await;
}

async fn a_deposed_appender_ends(fixture: Fixture) {
    let store = fixture.open().await;
    let old = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    let mut watched = Watched::spawn(&store, old);
    watched.check_complete(&*store).await;
    store.acquire(P0, &owner(2), Claim::Force).await.unwrap();
    assert_eq!(watched.ended().await, EndReason::Fenced);
    assert!(watched.appender.push(Batch::new("late")).is_err());
    assert_eq!(read_all(&*store, Head::GENESIS).await, ["the last"]);
}

async fn a_closed_appender_releases_the_partition(fixture: Fixture) {
    let store = fixture.open().await;
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    let mut watched = Watched::spawn(&store, acquired);
    watched.push("a");
    watched.push("b");
    watched.appender.close().await;
    assert_eq!(read_all(&*store, Head::GENESIS).await, ["a", "b"]);
    assert_eq!(store.acquire(P0, &owner(2), Claim::IfFree).await.unwrap().head.seq, 2);
}
