//! Sentinels: which of their answers count, and who may ask them.

use std::sync::{Arc, Mutex};

use kahn_store::testing::{SentinelSetup, wait_until};
use kahn_store::{RedisConfig, StoreError};

use crate::failover::blocking;
use crate::load::{Load, check_log};
use crate::support::{cluster, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_was_replaced_is_left_although_it_still_accepts_writes() {
    let setup = Arc::new(Mutex::new(SentinelSetup::start(&["--appendonly", "yes"])));
    let config = RedisConfig::new(setup.lock().unwrap().url(0));
    let store = open(&config, cluster(1)).await.unwrap();
    let mut load = Load::start(&store, 1).await;
    load.progress(100).await;
    blocking(&setup, |setup| {
        setup.promote_silently(1);
        let head = ["HGET", "kahn:{p000}:m", "s"];
        let before: u64 = setup.servers[1].query(&head);
        wait_until("writes at the former master", || before < setup.servers[0].query::<u64>(&head));
        setup.announce(1);
        wait_until("writes at the new master", || before < setup.servers[1].query::<u64>(&head));
        assert!(setup.servers[0].is_master());
    })
    .await;
    load.progress(100).await;
    let reports = [load.finish().await];
    assert!(0 < reports[0].lost, "nothing was written to the former master");
    check_log(&config, &reports).await;
}

#[tokio::test]
async fn sentinels_that_are_down_or_know_nothing_are_named() {
    let mut setup = SentinelSetup::start(&["--appendonly", "yes"]);
    setup.kill_sentinel(0);
    open(&RedisConfig::new(setup.url(0)), cluster(1)).await.unwrap();
    let unknown = setup.url(0).replace("kahn-test", "other");
    let error = open(&RedisConfig::new(unknown), cluster(1)).await.unwrap_err().to_string();
    assert!(error.contains("\"other\"") && error.contains("does not monitor"), "{error}");
    setup.kill_sentinel(1);
    setup.kill_sentinel(2);
    let error = open(&RedisConfig::new(setup.url(0)), cluster(1)).await.unwrap_err().to_string();
    assert!(error.contains("kahn-test") && error.contains("connect to redis at 127"), "{error}");
}

#[tokio::test]
async fn a_user_with_the_documented_permissions_may_ask_sentinels() {
    let setup = SentinelSetup::start(&["--appendonly", "yes"]);
    let commands = "+sentinel|get-master-addr-by-name +sentinel|master";
    let user = ["ACL", "SETUSER", "kahn", "on", ">hunter2"];
    setup.tell_sentinels(&user.into_iter().chain(commands.split(' ')).collect::<Vec<_>>());
    setup.tell_sentinels(&["ACL", "SETUSER", "default", "off"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    let config = RedisConfig {
        sentinel_user: Some("kahn".to_owned()),
        sentinel_password_file: Some(file.clone()),
        ..RedisConfig::new(setup.url(0))
    };
    std::fs::write(&file, "wrong").unwrap();
    let refused = open(&config, cluster(1)).await.unwrap_err();
    assert!(matches!(refused, StoreError::NoMaster { .. }), "{refused:?}");
    let refused = refused.to_string();
    assert!(refused.contains("authentication failed") && !refused.contains("hunter2"), "{refused}");
    std::fs::write(&file, "hunter2\n").unwrap();
    open(&config, cluster(1)).await.unwrap();
}
