//! Writes that replicas must have before they are acknowledged.

use kahn_store::testing::{Cut, Proxy, RedisPair, SentinelSetup, wait_until};
use kahn_store::{
    AppendEvent, Claim, Durability, LogStore as _, RedisConfig, RedisStore, StoreError,
};

use crate::load::acquire;
use crate::support::{P0, Watched, cluster, open, owner};

fn config(pair: &RedisPair) -> RedisConfig {
    RedisConfig { replicas: 1, ..RedisConfig::new(pair.master.url()) }
}

#[tokio::test]
async fn a_batch_that_no_replica_has_is_not_acknowledged() {
    let pair = RedisPair::start();
    let store = RedisStore::open(&config(&pair), cluster(1)).await.unwrap();
    assert_eq!(store.durability(), Durability::Replicated);
    let store = open(&config(&pair), cluster(1)).await.unwrap();
    let mut watched = Watched::spawn(&store, acquire(&store, 1).await);
    watched.push("first");
    watched.committed(1).await;
    pair.replica.pause();
    watched.push("second");
    let cause = watched.troubled().await;
    assert!(cause.contains("0 of 1 replicas"), "{cause}");
    for _ in 0..2 {
        let refused = store.put_blob(P0, "x", "blob".into()).await;
        assert!(matches!(refused, Err(StoreError::NotReplicated { found: 0, wanted: 1 })));
    }
    pair.replica.resume();
    watched.committed(2).await;
    watched.check_complete(&*store).await;
    // It goes on by itself, however busy the disk is.
    while store.put_blob(P0, "x", "blob".into()).await.is_err() {}
}

#[tokio::test]
async fn a_repeated_append_is_not_acknowledged_before_the_replica_has_it() {
    let pair = RedisPair::start();
    let proxy = Proxy::start(pair.master.port(), "marked").await;
    let proxied = RedisConfig { url: proxy.url(), ..config(&pair) };
    let store = open(&proxied, cluster(1)).await.unwrap();
    let mut watched = Watched::spawn(&store, acquire(&store, 1).await);
    watched.push("first");
    watched.committed(1).await;
    pair.replica.pause();
    proxy.cut(Cut::Reply);
    // It is in the log, and the repetition over another connection has nothing left to write.
    watched.push("marked");
    watched.troubled().await;
    // Three refusals of renewals pass while it must not be acknowledged.
    for _ in 0..3 {
        let renewed = store.acquire(P0, &owner(2), Claim::IfFree).await;
        assert!(matches!(renewed, Err(StoreError::Held { .. } | StoreError::NotReplicated { .. })));
        let late = store.put_blob(P0, "x", "blob".into()).await;
        assert!(matches!(late, Err(StoreError::NotReplicated { .. })), "{late:?}");
    }
    while let Some(event) = watched.waiting_event() {
        assert!(!matches!(event, AppendEvent::Committed { .. }), "{event:?}");
    }
    pair.replica.resume();
    watched.committed(2).await;
    watched.check_complete(&*store).await;
}

async fn check_refused(config: &RedisConfig, parts: &[&str]) {
    let refused = RedisStore::open(config, cluster(1)).await.unwrap_err().to_string();
    for part in parts {
        assert!(refused.contains(part), "{refused:?} does not name {part:?}");
    }
}

#[tokio::test]
async fn servers_that_cannot_replicate_safely_are_refused() {
    let pair = RedisPair::start();
    pair.master.run(&["CONFIG", "SET", "appendfsync", "everysec"]);
    let parts = ["appendfsync", "everysec", "coordinator.store.replicas", "CONFIG SET"];
    check_refused(&config(&pair), &parts).await;
    pair.master.run(&["CONFIG", "SET", "appendfsync", "always"]);
    pair.master.run(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    check_refused(&config(&pair), &["min-replicas-to-write", "CONFIG SET"]).await;
    pair.master.run(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let two = RedisConfig { replicas: 2, ..config(&pair) };
    check_refused(&two, &["1 connected replicas", "coordinator.store.replicas is 2"]).await;
    let of_replica = RedisConfig::new(pair.replica.url());
    check_refused(&of_replica, &["is a replica"]).await;
    RedisStore::open(&config(&pair), cluster(1)).await.unwrap();
}

#[tokio::test]
async fn a_promoted_server_that_keeps_less_is_refused_until_it_is_corrected() {
    let setup = SentinelSetup::start(&["--appendonly", "yes"]);
    for replica in &setup.servers[1..] {
        replica.run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    }
    let store = open(&RedisConfig::new(setup.url(0)), cluster(1)).await.unwrap();
    let mut watched =
        Watched::spawn(&store, store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap());
    watched.check_complete(&*store).await;
    setup.fail_over();
    wait_until("another master", || setup.master_port() != setup.servers[0].port());
    watched.push("more");
    let cause = loop {
        let cause = watched.troubled().await;
        if cause.contains("maxmemory-policy") {
            break cause;
        }
        watched.push("again");
    };
    assert!(cause.contains("CONFIG SET maxmemory-policy noeviction"), "{cause}");
    for server in &setup.servers {
        server.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    }
    watched.check_complete(&*store).await;
}
