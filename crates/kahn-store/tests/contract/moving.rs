//! The state of a cluster moves from any kind of store to any other and stays the same.

#[path = "moving/source.rs"]
mod source;
#[path = "moving/target.rs"]
mod target;

use std::sync::Arc;

use kahn_core::log::{Append, Head, Reply};
use kahn_store::testing::{RedisCluster, RedisServer, SentinelSetup};
use kahn_store::{
    Batch, Claim, Durability, EmbeddedStore, Export, ExportError, LogStore, Position, Record,
    RedisConfig, RedisStore, StoreError,
};

use crate::support::{Fixture, P0, after, cluster, fill, owner, read_all};
use source::{Exported, N_PARTITIONS, Source, export, import, partitions, state};
use target::{NEW, Target};

/// Returns the records with the ends of a cluster that left epochs to the one before.
fn moved(mut exported: Exported) -> Exported {
    for record in exported.iter_mut().flatten() {
        if let Record::End(Position { epoch, .. }) = record {
            *epoch += 1 << 20;
        }
    }
    exported
}

/// Moves the state of a cluster, and checks that the new one has the same and goes on.
async fn check_moved(source: &Source, exported: &Exported, target: &Target) {
    import(&*target.begin().await, exported).await;
    let store = target.open().await;
    assert_eq!(store.meta(), NEW);
    let found = export(&store).await;
    assert_eq!(found, moved(exported.clone()));
    let expected: Vec<_> = partitions().map(|p| source.world.core.state().snapshot(p)).collect();
    for (found, expected) in state(&found).into_iter().zip(expected) {
        assert!(!expected.runs.is_empty());
        assert_eq!(found.runs, expected.runs);
    }
    for partition in partitions() {
        let blobs: Vec<_> = store.list_blobs(partition, "").await.unwrap();
        assert!(!blobs.contains(&"stray".to_owned()));
    }
    check_goes_on(source, &*store).await;
}

/// Checks that the new cluster fences the old one, and that it can be written to.
async fn check_goes_on(source: &Source, store: &dyn LogStore) {
    let old = source.owned[0];
    let payload = Batch::new("more");
    let next = after(old.head, b"more");
    let append = Append { send: 1, prev: old.head, next, payload };
    let refused = store.append(P0, old.term, append.clone()).await;
    assert_eq!(refused.reply, Reply::Fenced);
    let new = store.acquire(P0, &owner(9), Claim::IfFree).await.unwrap();
    assert_eq!(new.head, old.head);
    assert!(old.term.epoch + 1000 < new.term.epoch, "{new:?}");
    assert_eq!(store.append(P0, new.term, append).await.reply, Reply::Applied);
}

#[tokio::test]
async fn a_state_moves_from_each_kind_of_store_to_each_other_and_stays_the_same() {
    for fixture in [Fixture::memory(), Fixture::embedded(Durability::Process), Fixture::redis()] {
        let source = Source::start(fixture.open().await).await;
        let exported = export(&source.store).await;
        let has = |is_it: fn(&Record) -> bool| exported.iter().flatten().any(is_it);
        assert!(has(|record| matches!(record, Record::Checkpoint { .. })));
        assert!(has(|record| matches!(record, Record::Blob { .. })));
        assert!(has(|record| matches!(record, Record::Entry { .. })));
        for target in Target::all() {
            check_moved(&source, &exported, &target).await;
        }
    }
}

#[tokio::test]
async fn a_state_moves_to_a_redis_cluster_and_behind_sentinels() {
    let source = Source::start(Fixture::memory().open().await).await;
    let exported = export(&source.store).await;
    let cluster = RedisCluster::start(&["--appendonly", "yes"]);
    let target = Target::served(RedisConfig::new(cluster.url()));
    check_moved(&source, &exported, &target).await;
    let args = ["--appendonly", "yes", "--appendfsync", "always", "--min-replicas-to-write", "1"];
    let setup = SentinelSetup::start(&args);
    let config = RedisConfig { replicas: 2, ..RedisConfig::new(setup.url(0)) };
    let target = Target::served(config);
    check_moved(&source, &exported, &target).await;
}

#[tokio::test]
async fn an_import_that_was_interrupted_is_noticed_and_begins_again() {
    let source = Source::start(Fixture::memory().open().await).await;
    let exported = export(&source.store).await;
    for target in [Target::embedded(), Target::redis()] {
        for n_partitions in [0, 1, usize::from(N_PARTITIONS)] {
            let interrupted = target.begin().await;
            for (partition, records) in partitions().zip(&exported).take(n_partitions) {
                interrupted.write(partition, records.clone()).await.unwrap();
                let junk = Record::Blob { name: "junk".to_owned(), bytes: "junk".into() };
                interrupted.write(partition, vec![junk]).await.unwrap();
            }
            drop(interrupted);
            let refused = target.try_open().await;
            assert!(matches!(refused, Err(StoreError::Unfinished(id)) if id == NEW.id));
        }
        check_moved(&source, &exported, &target).await;
        for partition in partitions() {
            let blobs = target.open().await.list_blobs(partition, "junk").await.unwrap();
            assert!(blobs.is_empty());
        }
    }
}

#[tokio::test]
async fn a_store_that_has_a_cluster_is_refused_and_left_as_it_is() {
    for fixture in [Fixture::embedded(Durability::Process), Fixture::redis()] {
        let store = fixture.open().await;
        let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
        fill(&*store, acquired, &[b"a", b"b"]).await;
        drop(store);
        let refused = match &fixture {
            Fixture::Embedded(dir, _) => EmbeddedStore::import(dir.path(), NEW).map(drop),
            Fixture::Redis(server) => {
                RedisStore::import(&RedisConfig::new(server.url()), NEW).await.map(drop)
            }
            Fixture::Memory(_) | Fixture::Served(_) => panic!("not tested here"),
        };
        let Err(StoreError::Occupied(id)) = refused else { panic!("{refused:?}") };
        assert_eq!(id, cluster(4).id);
        let store = fixture.open().await;
        assert_eq!(read_all(&*store, Head::GENESIS).await, ["a", "b"]);
        assert_eq!(store.position(P0).await.unwrap().epoch, 1);
    }
}

#[tokio::test]
async fn a_partition_of_a_cluster_whose_properties_were_lost_is_refused() {
    let server = RedisServer::start("everysec");
    let store = Fixture::Served(RedisConfig::new(server.url())).open().await;
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    fill(&*store, acquired, &[b"a"]).await;
    server.run(&["DEL", "kahn:meta"]);
    let refused = RedisStore::import(&RedisConfig::new(server.url()), NEW).await;
    assert!(matches!(refused, Err(StoreError::Occupied(_))), "{refused:?}");
    assert_eq!(read_all(&*store, Head::GENESIS).await, ["a"]);
}

#[tokio::test]
async fn an_import_that_was_replaced_by_another_writes_nothing_more() {
    let target = Target::redis();
    let (first, second) = (target.begin().await, target.begin().await);
    let blob = |text: &'static str| vec![Record::Blob { name: "b".to_owned(), bytes: text.into() }];
    second.write(P0, blob("second")).await.unwrap();
    let refused = first.write(P0, blob("first")).await;
    assert!(matches!(refused, Err(StoreError::ImportReplaced)), "{refused:?}");
    assert!(matches!(first.complete().await, Err(StoreError::ImportReplaced)));
    second.complete().await.unwrap();
    let store = target.open().await;
    assert_eq!(store.get_blob(P0, "b").await.unwrap(), Some("second".into()));
}

#[tokio::test]
async fn records_that_are_written_twice_are_there_once() {
    let source = Source::start(Fixture::memory().open().await).await;
    let exported = export(&source.store).await;
    let target = Target::redis();
    let into = target.begin().await;
    for (partition, records) in partitions().zip(&exported) {
        for record in records {
            for _ in 0..2 {
                into.write(partition, vec![record.clone()]).await.unwrap();
            }
        }
    }
    into.complete().await.unwrap();
    assert_eq!(export(&target.open().await).await, moved(exported));
}

#[tokio::test]
async fn an_export_ends_where_it_began_and_notices_if_a_checkpoint_has_replaced_the_rest() {
    let mut source = Source::start(Fixture::memory().open().await).await;
    let exported = export(&source.store).await;
    let begin = async |source: &Source| {
        let mut exports = Vec::new();
        for partition in partitions() {
            exports.push(Export::begin(Arc::clone(&source.store), partition).await.unwrap());
        }
        exports
    };
    let mut exports = begin(&source).await;
    source.work("later").await;
    for (export, expected) in exports.iter_mut().zip(&exported) {
        let mut found = Vec::new();
        while let Some(record) = export.next().await.unwrap() {
            found.push(record);
        }
        assert_eq!(&found, expected);
    }
    let mut exports = begin(&source).await;
    for partition in partitions() {
        source.checkpoint(partition).await;
        source.delete_unreferenced(partition).await;
    }
    for export in &mut exports {
        let end = loop {
            match export.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("records are missing"),
                Err(error) => break error,
            }
        };
        assert!(matches!(end, ExportError::Changed { .. }), "{end}");
    }
}
