//! Faults specific to Redis: crashes, lost tails, closed connections, and the check at startup.

use crate::support::{P0, Watched, cluster, owner, read_all, redis};
use kahn_core::log::Head;
use kahn_store::testing::{Cut, Proxy, RedisServer};
use kahn_store::{
    Claim, ClusterId, ClusterMeta, Durability, EndReason, LogStore, Owner, RedisConfig, RedisStore,
    StoreError,
};

#[tokio::test]
async fn a_killed_server_that_flushes_always_loses_nothing() {
    let mut server = RedisServer::start("always");
    let store = redis(&server.url(), cluster(1)).await.unwrap();
    assert_eq!(store.durability(), Durability::Disk);
    let mut watched =
        Watched::spawn(&store, store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap());
    for round in 0..3 {
        for n in 0..50 {
            watched.push(format!("{round} {n}"));
        }
        watched.committed(round * 52 + 20).await;
        server.kill9();
        watched.push("while it is down");
        watched.troubled().await;
        server.restart();
        watched.check_complete(&*store).await;
    }
    assert_eq!(watched.missing, 0);
}

#[tokio::test]
async fn an_outage_is_counted_although_the_request_was_repeated_but_no_lease_is_taken_in_it() {
    let server = RedisServer::start("everysec");
    let proxy = Proxy::start(server.port(), "marked").await;
    let store = redis(&proxy.url(), cluster(1)).await.unwrap();
    assert_eq!(store.get_blob(P0, "marked").await.unwrap(), None);
    let before = store.n_outages();
    proxy.cut(Cut::Request);
    assert_eq!(store.get_blob(P0, "marked").await.unwrap(), None);
    assert!(before < store.n_outages());

    let marked = Owner { nonce: 1, address: "http://marked:7400".to_owned() };
    store.put_blob(P0, "marked", "warm".into()).await.unwrap();
    let undisturbed = |n_outages| Claim::Undisturbed { n_outages, earlier: None };
    let before = store.n_outages();
    proxy.cut(Cut::Request);
    store.acquire(P0, &marked, undisturbed(before)).await.unwrap_err();
    assert!(proxy.is_done());
    let late = store.acquire(P0, &owner(2), undisturbed(before)).await;
    assert!(matches!(late, Err(StoreError::Outage)), "{late:?}");
    store.acquire(P0, &owner(2), undisturbed(store.n_outages())).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_ended_with_an_outage_does_not_count_as_another_one() {
    let mut server = RedisServer::start("everysec");
    let store = redis(&server.url(), cluster(1)).await.unwrap();
    // A connection for reading and one for writing.
    store.put_blob(P0, "x", "blob".into()).await.unwrap();
    store.get_blob(P0, "x").await.unwrap();
    server.kill9();
    server.restart();
    store.get_blob(P0, "x").await.unwrap();
    let n_outages = store.n_outages();
    assert!(0 < n_outages);
    store.acquire(P0, &owner(1), Claim::Undisturbed { n_outages, earlier: None }).await.unwrap();
}

/// Returns a store whose server was restored from a copy with 10 of 30 committed entries.
async fn fallen_back(server: &mut RedisServer) -> (std::sync::Arc<dyn LogStore>, Watched) {
    let store = redis(&server.url(), cluster(1)).await.unwrap();
    let mut watched =
        Watched::spawn(&store, store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap());
    for n in 0..10 {
        watched.push(format!("kept {n}"));
    }
    watched.committed(10).await;
    let copy = server.copy_aof();
    for n in 0..20 {
        watched.push(format!("lost {n}"));
    }
    watched.committed(30).await;
    server.kill9();
    server.restore_aof(&copy);
    server.restart();
    (store, watched)
}

#[tokio::test]
async fn a_lost_tail_is_appended_again_from_memory() {
    let mut server = RedisServer::start("everysec");
    let (store, mut watched) = fallen_back(&mut server).await;
    watched.check_complete(&*store).await;
    assert_eq!(watched.missing, 20);
}

#[tokio::test]
async fn a_lost_tail_is_found_while_nothing_is_appended() {
    let mut server = RedisServer::start("everysec");
    let (store, mut watched) = fallen_back(&mut server).await;
    while watched.missing == 0 {
        watched.event().await;
    }
    assert_eq!(watched.missing, 20);
    watched.check_complete(&*store).await;
}

#[tokio::test]
async fn a_lost_tail_is_appended_again_before_the_partition_is_released() {
    let mut server = RedisServer::start("everysec");
    let (store, watched) = fallen_back(&mut server).await;
    let Watched { appender, pushed, .. } = watched;
    appender.close().await;
    assert_eq!(read_all(&*store, Head::GENESIS).await, pushed);
    store.acquire(P0, &owner(2), Claim::IfFree).await.unwrap();
}

/// Pushes through a proxy that injects `cuts`, and checks the log.
async fn check_cuts(cuts: &[Cut]) {
    let server = RedisServer::start("everysec");
    let proxy = Proxy::start(server.port(), "marked").await;
    let store = redis(&proxy.url(), cluster(1)).await.unwrap();
    let mut watched =
        Watched::spawn(&store, store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap());
    for (n, cut) in cuts.iter().enumerate() {
        proxy.cut(*cut);
        watched.push(format!("marked {n}"));
        let last = watched.push(format!("plain {n}"));
        watched.committed(last).await;
    }
    assert!(proxy.is_done());
    let n_late = cuts.iter().filter(|cut| **cut == Cut::Late).count();
    assert_eq!(proxy.deliver_late().await, n_late);
    watched.check_complete(&*store).await;
    assert_eq!(watched.missing, 0);
}

#[tokio::test]
async fn a_request_lost_on_the_way_is_sent_again() {
    check_cuts(&[Cut::Request; 3]).await;
}

#[tokio::test]
async fn a_request_whose_reply_was_lost_is_applied_once() {
    check_cuts(&[Cut::Reply; 3]).await;
}

#[tokio::test]
async fn a_request_that_arrives_after_its_repetition_changes_nothing() {
    check_cuts(&[Cut::Late, Cut::Reply, Cut::Late]).await;
}

#[tokio::test]
async fn a_silent_server_is_given_up_and_asked_again() {
    let server = RedisServer::start("everysec");
    let config = RedisConfig {
        response_timeout: std::time::Duration::from_millis(200),
        ..RedisConfig::new(server.url())
    };
    let store: std::sync::Arc<dyn LogStore> =
        std::sync::Arc::new(RedisStore::open(&config, cluster(1)).await.unwrap());
    let mut watched =
        Watched::spawn(&store, store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap());
    watched.check_complete(&*store).await;
    server.run(&["CLIENT", "PAUSE", "500", "WRITE"]);
    watched.push("into silence");
    assert!(!watched.troubled().await.is_empty());
    watched.check_complete(&*store).await;
}

#[tokio::test]
async fn forgotten_scripts_are_loaded_again() {
    let server = RedisServer::start("everysec");
    let store = redis(&server.url(), cluster(1)).await.unwrap();
    let mut watched =
        Watched::spawn(&store, store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap());
    watched.check_complete(&*store).await;
    server.run(&["SCRIPT", "FLUSH"]);
    watched.check_complete(&*store).await;
    server.run(&["SCRIPT", "FLUSH"]);
    assert_eq!(store.acquire(P0, &owner(2), Claim::Force).await.unwrap().head.seq, 2);
}

#[tokio::test]
async fn a_redis_without_our_cluster_is_not_written_to() {
    let mut server = RedisServer::start("everysec");
    let empty = server.copy_aof();
    let store = redis(&server.url(), cluster(1)).await.unwrap();
    let mut watched =
        Watched::spawn(&store, store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap());
    watched.check_complete(&*store).await;
    server.kill9();
    server.restore_aof(&empty);
    server.restart();
    watched.push("into the void");
    let refused = loop {
        if let Err(error) = store.read(P0, 0, 1000).await
            && matches!(error, StoreError::WrongCluster { .. })
        {
            break error.to_string();
        }
    };
    assert!(refused.contains("holds no cluster"), "{refused}");
    assert!(!watched.troubled().await.is_empty());
}

#[tokio::test]
async fn a_history_that_is_not_ours_ends_the_appender() {
    let mut server = RedisServer::start("everysec");
    let store = redis(&server.url(), cluster(1)).await.unwrap();
    let acquired = store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    let copy = server.copy_aof();
    let mut first = Watched::spawn(&store, acquired);
    first.push("ours");
    first.committed(1).await;
    server.kill9();
    server.restore_aof(&copy);
    server.restart();
    // With the same term, which is only possible in a restored backup.
    let again = redis(&server.url(), cluster(1)).await.unwrap();
    let foreign = crate::support::on_top(Head::GENESIS, b"foreign");
    let done = again.append(P0, acquired.term, foreign).await;
    if done.reply == kahn_core::log::Reply::Applied {
        let reason = first.ended().await;
        assert!(matches!(reason, EndReason::Diverged { .. }), "{reason:?}");
        assert_eq!(read_all(&*again, Head::GENESIS).await, ["foreign"]);
    } else {
        // The appender was faster and has repaired the log.
        assert_eq!(read_all(&*again, Head::GENESIS).await, ["ours"]);
    }
}

#[tokio::test]
async fn the_cluster_keeps_the_name_it_was_created_with() {
    let server = RedisServer::start("everysec");
    redis(&server.url(), cluster(1)).await.unwrap();
    let other = ClusterMeta { id: ClusterId(0xbad), partitions: 1 };
    assert_eq!(redis(&server.url(), other).await.unwrap().meta(), cluster(1));
}

/// Opens a store on a Redis with these arguments and expects an error about `setting`.
async fn check_gate(args: &[&str], setting: &str, found: &str, level: Durability) {
    let server = RedisServer::start_with(args);
    let config = RedisConfig::new(server.url());
    let refused = RedisStore::open(&config, cluster(1)).await.unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, StoreError::Unsafe(_)), "{text}");
    for part in [setting, found, "CONFIG SET", "--allow-unsafe-redis"] {
        assert!(text.contains(part), "{text:?} does not name {part:?}");
    }
    let allowed = RedisConfig { allow_unsafe: true, ..config };
    assert_eq!(RedisStore::open(&allowed, cluster(1)).await.unwrap().durability(), level);
}

#[tokio::test]
async fn a_redis_that_keeps_nothing_is_refused() {
    check_gate(&["--appendonly", "no"], "appendonly", "no", Durability::Ephemeral).await;
}

#[tokio::test]
async fn a_redis_that_never_flushes_is_refused() {
    let args = ["--appendonly", "yes", "--appendfsync", "no"];
    check_gate(&args, "appendfsync", "no", Durability::Process).await;
}

#[tokio::test]
async fn a_redis_that_evicts_is_refused() {
    let args = ["--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"];
    check_gate(&args, "maxmemory-policy", "allkeys-lru", Durability::Process).await;
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_named() {
    let config = RedisConfig::new("redis://127.0.0.1:1");
    let error = RedisStore::open(&config, cluster(1)).await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}
