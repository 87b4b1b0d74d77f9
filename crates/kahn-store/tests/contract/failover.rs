//! Failovers under load: nothing acknowledged is lost while the owner lives, and nothing at all if
//! replicas must have each write.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kahn_store::testing::{RedisCluster, SentinelSetup, wait_until};
use kahn_store::{Claim, Durability, LogStore, RedisConfig, StoreError};
use tokio::time::Instant;

use crate::load::{Load, Report, check_log, open_whole};
use crate::support::{P0, cluster, open, owner};

const REPLICATED: [&str; 6] =
    ["--appendonly", "yes", "--appendfsync", "always", "--min-replicas-to-write", "1"];

/// How a master fails.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It is killed, and starts again after it was replaced.
    Kill,
    /// It hands over on request.
    HandOver,
    /// It stops, and goes on after it was replaced.
    Pause,
    /// It blocks for two seconds.
    Sleep,
}

const FAULTS: [Fault; 4] = [Fault::Kill, Fault::HandOver, Fault::Pause, Fault::Sleep];

/// Returns how many failovers to make: `KAHN_FAILOVERS`, or `usual`.
fn n_failovers(usual: usize) -> usize {
    #[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
    let set = std::env::var("KAHN_FAILOVERS");
    set.map_or(usual, |n| n.parse().unwrap())
}

/// Prints what a series of failovers has shown, after the log was checked.
fn report(what: &str, mut outages: Vec<Duration>, reports: &[Report]) {
    outages.sort_unstable();
    let acknowledged = reports.last().map_or(0, |last| last.committed);
    let again: u64 = reports.iter().map(|report| report.lost).sum();
    eprintln!(
        "{what}: {} failovers, {acknowledged} acknowledged, {again} appended again, 0 lost; until \
         writes went on: p50 {:?}, max {:?}",
        outages.len(),
        outages[outages.len() / 2],
        outages[outages.len() - 1],
    );
}

/// Lets the master behind sentinels fail, and returns once there is another one.
fn replace_master(setup: &mut SentinelSetup, fault: Fault) {
    let port = setup.master_port();
    match fault {
        Fault::Kill => setup.master().kill9(),
        Fault::HandOver => setup.fail_over(),
        Fault::Pause => setup.master().pause(),
        Fault::Sleep => {
            // The answer comes too late, and the server is asked no more.
            drop(setup.master().try_query::<String>(&["DEBUG", "SLEEP", "2.1"]));
        }
    }
    wait_until("another master", || setup.master_port() != port);
    match fault {
        Fault::Kill => setup.restart(port),
        Fault::Pause => setup.servers.iter().find(|one| one.port() == port).unwrap().resume(),
        Fault::HandOver | Fault::Sleep => {}
    }
}

/// Something that fails, shared with the thread that blocks on it.
pub(crate) type Servers<S> = Arc<Mutex<S>>;

/// Runs `fault`, which blocks until it is over, and returns the longest time without writes.
async fn outage<S: Send + 'static>(
    load: &mut Load,
    servers: &Servers<S>,
    fault: impl FnOnce(&mut S) + Send + 'static,
) -> Duration {
    load.progress(20).await;
    load.longest_gap();
    blocking(servers, fault).await;
    load.progress(200).await;
    load.longest_gap()
}

pub(crate) async fn blocking<S: Send + 'static, T: Send + 'static>(
    servers: &Servers<S>,
    work: impl FnOnce(&mut S) -> T + Send + 'static,
) -> T {
    let servers = Arc::clone(servers);
    tokio::task::spawn_blocking(move || work(&mut servers.lock().unwrap())).await.unwrap()
}

async fn check_sentinel(args: &[&str], replicas: u32, n_failovers: usize) {
    let args: Vec<&str> = args.iter().copied().chain(["--enable-debug-command", "yes"]).collect();
    let setup = Arc::new(Mutex::new(SentinelSetup::start(&args)));
    let url = setup.lock().unwrap().url(0);
    let config = RedisConfig { replicas, ..RedisConfig::new(url) };
    let store = open(&config, cluster(1)).await.unwrap();
    let (mut outages, mut reports) = (Vec::new(), Vec::new());
    let mut load = Load::start(&store, 1).await;
    for (n, fault) in (0..n_failovers).zip(FAULTS.into_iter().cycle()) {
        outages.push(outage(&mut load, &setup, move |setup| replace_master(setup, fault)).await);
        eprintln!("{n} {fault:?}: {:?}", outages[n]);
        blocking(&setup, SentinelSetup::wait_until_whole).await;
    }
    load.progress(20).await;
    reports.push(load.finish().await);
    check_log(&config, &reports).await;
    report("sentinel", outages, &reports);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_replace_a_master_and_its_owner_restores_what_was_lost() {
    check_sentinel(&["--appendonly", "yes"], 0, n_failovers(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_vanish_with_the_master_and_the_replicas_have_everything() {
    let mut setup = SentinelSetup::start(&REPLICATED);
    let config = RedisConfig { replicas: 2, ..RedisConfig::new(setup.url(0)) };
    assert_eq!(open_whole(&config).await.durability(), Durability::Replicated);
    let (mut reports, mut outages) = (Vec::new(), Vec::new());
    for n in 0..n_failovers(2) {
        let store = open_whole(&config).await;
        let mut load = Load::start(&store, u64::try_from(n).unwrap() + 1).await;
        load.progress(200).await;
        let began = Instant::now();
        let port = setup.master_port();
        setup.master().kill9();
        reports.push(load.vanish().await);
        wait_until("another master", || setup.master_port() != port);
        outages.push(began.elapsed());
        setup.restart(port);
        setup.wait_until_whole();
    }
    check_log(&config, &reports).await;
    report("replicated, owner gone", outages, &reports);
}

/// Claims a partition that is free after `fault` has replaced its master. A claimant who does not
/// know of the failover must not succeed: the owner may not have had time to renew its lease.
async fn check_counted<S: Send + 'static>(
    store: &Arc<dyn LogStore>,
    fault: impl FnOnce() -> S + Send + 'static,
) {
    // The connections are made before the failover.
    store.put_blob(P0, "x", "blob".into()).await.unwrap();
    let before = store.n_outages();
    let servers = tokio::task::spawn_blocking(fault).await.unwrap();
    let claim = Claim::Undisturbed { n_outages: before, earlier: None };
    let claimed = store.acquire(P0, &owner(2), claim).await;
    assert!(claimed.is_err() && before < store.n_outages(), "unnoticed: {claimed:?}");
    let until = Instant::now() + Duration::from_secs(40);
    loop {
        let n_outages = store.n_outages();
        let claim = Claim::Undisturbed { n_outages, earlier: None };
        match store.acquire(P0, &owner(2), claim).await {
            Err(_) if Instant::now() < until => {}
            claimed => break drop((claimed.unwrap(), servers)),
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // poll
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_is_counted_before_a_lease_is_taken_from_the_new_master() {
    let setup = SentinelSetup::start(&["--appendonly", "yes"]);
    let store = open(&RedisConfig::new(setup.url(0)), cluster(1)).await.unwrap();
    check_counted(&store, move || {
        setup.fail_over();
        wait_until("the former master to be a replica", || !setup.servers[0].is_master());
        setup
    })
    .await;
    let mut servers = RedisCluster::start(&["--appendonly", "yes"]);
    let store = open(&RedisConfig::new(servers.url()), cluster(1)).await.unwrap();
    check_counted(&store, move || {
        replace_node(&mut servers, Fault::HandOver);
        servers
    })
    .await;
}

/// Returns the slot of the partition under load.
fn slot(cluster: &RedisCluster) -> u16 {
    cluster.nodes[0].query(&["CLUSTER", "KEYSLOT", "kahn:{p000}:m"])
}

/// Lets the master of the slot fail, and returns once there is another one.
fn replace_node(cluster: &mut RedisCluster, fault: Fault) {
    let slot = slot(cluster);
    let master = cluster.master_of(slot);
    let replica = cluster.replica_of(master);
    match fault {
        Fault::Kill => cluster.nodes[master].kill9(),
        Fault::HandOver => cluster.nodes[replica].run(&["CLUSTER", "FAILOVER"]),
        Fault::Pause => cluster.nodes[master].pause(),
        Fault::Sleep => {
            drop(cluster.nodes[master].try_query::<String>(&["DEBUG", "SLEEP", "2.5"]));
        }
    }
    wait_until("another master", || cluster.nodes[replica].is_master());
    match fault {
        Fault::Kill => cluster.nodes[master].restart(),
        Fault::Pause => cluster.nodes[master].resume(),
        Fault::HandOver | Fault::Sleep => {}
    }
}

async fn check_cluster(args: &[&str], replicas: u32, n_failovers: usize) {
    let args: Vec<&str> = args.iter().copied().chain(["--enable-debug-command", "yes"]).collect();
    let servers = Arc::new(Mutex::new(RedisCluster::start(&args)));
    let url = servers.lock().unwrap().url();
    let config = RedisConfig { replicas, ..RedisConfig::new(url) };
    let store = open_whole(&config).await;
    let mut load = Load::start(&store, 1).await;
    let mut outages = Vec::new();
    for (n, fault) in (0..n_failovers).zip(FAULTS.into_iter().cycle()) {
        outages.push(outage(&mut load, &servers, move |nodes| replace_node(nodes, fault)).await);
        eprintln!("{n} {fault:?}: {:?}", outages[n]);
        blocking(&servers, |nodes| nodes.wait_until_whole()).await;
    }
    load.progress(20).await;
    let reports = [load.finish().await];
    check_log(&config, &reports).await;
    report("cluster", outages, &reports);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_replaces_a_master_and_its_owner_restores_what_was_lost() {
    check_cluster(&["--appendonly", "yes"], 0, n_failovers(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_replicated_writes_goes_on_after_a_failover() {
    check_cluster(&REPLICATED, 1, n_failovers(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_moves_between_masters_while_its_owner_appends() {
    let servers = Arc::new(Mutex::new(RedisCluster::start(&["--appendonly", "yes"])));
    let config = RedisConfig::new(servers.lock().unwrap().url());
    let store = open(&config, cluster(1)).await.unwrap();
    let mut load = Load::start(&store, 1).await;
    let mut outages = Vec::new();
    for n in 0..n_failovers(4) {
        outages.push(outage(&mut load, &servers, move |nodes| move_on(nodes, n)).await);
        // Control operations follow the slot as well.
        store.put_blob(P0, "x", "blob".into()).await.unwrap();
    }
    let reports = [load.finish().await];
    check_log(&config, &reports).await;
    report("moved slots", outages, &reports);
}

/// Moves the slot of the partition to another master, in round `n`.
fn move_on(cluster: &mut RedisCluster, n: usize) {
    let slot = slot(cluster);
    let from = cluster.master_of(slot);
    let is_other = |ix: &usize| *ix != from && cluster.nodes[*ix].is_master();
    let others: Vec<usize> = (0..cluster.nodes.len()).filter(is_other).collect();
    let to = others[n % others.len()];
    cluster.move_slot(slot, to);
    assert_eq!(cluster.master_of(slot), to);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_lost_its_data_is_not_taken_for_an_empty_one() {
    let servers = RedisCluster::start(&["--appendonly", "yes"]);
    let store = open(&RedisConfig::new(servers.url()), cluster(1)).await.unwrap();
    store.acquire(P0, &owner(1), Claim::IfFree).await.unwrap();
    servers.nodes[servers.master_of(slot(&servers))].run(&["FLUSHALL", "SYNC"]);
    let refused = store.acquire(P0, &owner(1), Claim::Force).await;
    assert!(matches!(refused, Err(StoreError::WrongCluster { found: None, .. })), "{refused:?}");
}
