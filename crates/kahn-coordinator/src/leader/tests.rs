//! Leaderships on a store in memory, in virtual time.

mod archiving;

use std::time::Duration;

use kahn_core::log::Head;
use kahn_core::testing::{dag, submission};
use kahn_core::{Attachment, Core, Event, SessionId, Settings};
use kahn_model::{Admission, BootId, Labels, Partition, Resources};
use kahn_runtime::health::Readiness;
use kahn_runtime::metrics::Metrics;
use kahn_store::{Claim, ClusterId, ClusterMeta, MemoryStore, Owner};

use super::*;
use crate::config::MetricsConfig;
use crate::election::{Candidate, Outcome};
use crate::logs::Caps;
use crate::role::Roles;
use crate::server::Probe;

const PARTITIONS: u16 = 2;
/// Longer than anything waits.
const LONG: Duration = Duration::from_secs(3600);

fn store() -> MemoryStore {
    MemoryStore::new(ClusterMeta { id: ClusterId(1), partitions: PARTITIONS })
}

fn candidate(store: &MemoryStore, nonce: u64) -> Candidate {
    claiming(store, nonce, Claim::IfFree)
}

fn claiming(store: &MemoryStore, nonce: u64, claim: Claim) -> Candidate {
    let settings = Settings { partitions: PARTITIONS, ..Settings::default() };
    let owner = Owner::without_address(nonce);
    Candidate::new(Arc::new(store.clone()), settings, owner, claim)
}

/// A coordinator that has been elected.
async fn elected(candidate: &mut Candidate, store: &MemoryStore) -> Leader {
    let Outcome::Elected { recovered, asked_at } = candidate.campaign().await.unwrap() else {
        panic!("another leads");
    };
    let caps = Caps { attempt_bytes: 1, total_bytes: 1 };
    let shared = Shared {
        store: Arc::new(store.clone()),
        limits: Limits::default(),
        retention: crate::config::RetentionConfig::default(),
        is_store_shared: false,
        logs: Logs::new(std::env::temp_dir().join("none"), caps),
        histories: Histories::default(),
        archive_stats: ArchiveStats::new(&Metrics::new()),
        stats: Stats::new(&Metrics::new(), Readiness::new(), &MetricsConfig::default()),
        traces: Traces::off(),
        next_session: Arc::default(),
    };
    Leader::start(*recovered, asked_at, &shared).unwrap()
}

/// A worker without attempts.
fn attachment(session: SessionId) -> Attachment {
    Attachment {
        session,
        worker: kahn_core::testing::worker_id("w1"),
        boot: BootId(1),
        capacity: Resources::cpu_milli(1000),
        leases_max: 1,
        labels: Labels::new(),
        executors: Vec::new(),
        admission: Admission::default(),
        held: Vec::new(),
        unacknowledged: Vec::new(),
    }
}

/// Submits the run with this number.
async fn submit(leader: &Leader, number: u128) {
    let dag = dag().task("a").build();
    let submission = Arc::new(submission(number, "default", &dag));
    leader.handle.request(Event::Submitted(submission)).await.unwrap();
}

/// Ends a leadership and replaces all log entries by checkpoints.
async fn resign_with_checkpoints(leader: Leader, store: &MemoryStore) {
    let take = |core: &Core| [0, 1].map(|partition| core.state().snapshot(Partition(partition)));
    let snapshots = leader.handle.query(take).await.unwrap();
    assert!(matches!(leader.resign().await, Ended::Closed));

    for (partition, snapshot) in (0..).map(Partition).zip(snapshots) {
        let owner = Owner::without_address(3);
        let acquired = store.acquire(partition, &owner, Claim::IfFree).await.unwrap();
        if acquired.head == Head::GENESIS {
            store.release(partition, acquired.term).await.unwrap();
            continue;
        }
        let encoded = kahn_store::codec::encode_snapshot(&snapshot);
        for (name, bytes) in encoded.blobs {
            store.put_blob(partition, &name, bytes).await.unwrap();
        }
        let (term, seq) = (acquired.term, acquired.head.seq);
        store.checkpoint(partition, term, seq, encoded.payload).await.unwrap();
        store.release(partition, term).await.unwrap();
    }
}

async fn n_runs(leader: &Leader) -> usize {
    leader.handle.query(|core| core.state().n_runs()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_is_not_confirmed_answers_nothing() {
    let store = store();
    let leader = elected(&mut candidate(&store, 1), &store).await;
    let ask = || n_runs(&leader);
    tokio::time::advance(LONG).await;
    assert_eq!(ask().await, 0);

    store.hold_renewals(true);
    tokio::time::advance(2 * store.lease_ttl()).await;
    assert!(tokio::time::timeout(LONG, ask()).await.is_err(), "it may have been replaced");
    store.hold_renewals(false);
    assert_eq!(ask().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_waits_for_its_store_makes_progress_and_one_whose_driver_is_stuck_does_not() {
    let store = store();
    let leader = elected(&mut candidate(&store, 1), &store).await;
    let roles = Roles::new();
    roles.set(leader.role());
    let probe = Probe::new(roles.clone());
    let answered = async || tokio::time::timeout(LONG, probe.answered()).await.is_ok();
    store.hold_renewals(true);
    tokio::time::advance(2 * store.lease_ttl()).await;
    assert!(answered().await, "another start would not help the store");

    // A driver that never looks into its inbox.
    let (inbox, _stuck) = mpsc::channel(1);
    roles.set(Role::Leader { routes: leader.routes.clone(), driver: Handle::new(inbox) });
    assert!(!answered().await);
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_over_when_the_leader_resigns_or_stops_renewing() {
    let store = store();
    let (mut first, mut second) = (candidate(&store, 1), candidate(&store, 2));
    let leader = elected(&mut first, &store).await;
    assert!(matches!(second.campaign().await, Ok(Outcome::Led(owner)) if owner.nonce == 1));
    submit(&leader, 1).await;
    assert!(matches!(leader.resign().await, Ended::Closed));

    let mut leader = elected(&mut second, &store).await;
    assert_eq!(n_runs(&leader).await, 1);
    submit(&leader, 2).await;
    assert!(matches!(first.campaign().await, Ok(Outcome::Led(owner)) if owner.nonce == 2));
    store.hold_renewals(true);
    tokio::time::advance(store.lease_ttl()).await;
    let next = elected(&mut first, &store).await;
    store.hold_renewals(false);
    assert!(matches!(leader.ended().await, Ended::Deposed));
    assert_eq!(n_runs(&next).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_leader_gets_time_after_an_outage_even_if_no_request_of_the_standby_has_failed() {
    let store = store();
    let mut standby = candidate(&store, 2);
    store.acquire(Partition(0), &Owner::without_address(1), Claim::IfFree).await.unwrap();
    assert!(matches!(standby.campaign().await, Ok(Outcome::Led(_))));
    tokio::time::advance(store.lease_ttl()).await;
    store.count_outage();
    for _ in 0..3 {
        assert!(matches!(standby.campaign().await, Ok(Outcome::Undecided)));
        tokio::time::advance(store.lease_ttl() / 3).await;
    }
    tokio::time::advance(store.lease_ttl()).await;
    assert!(matches!(standby.campaign().await, Ok(Outcome::Elected { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_standby_starts_again_when_a_checkpoint_has_replaced_what_it_needs() {
    let store = store();
    let (mut first, mut second) = (candidate(&store, 1), candidate(&store, 2));
    let leader = elected(&mut first, &store).await;
    submit(&leader, 1).await;
    assert!(matches!(second.campaign().await, Ok(Outcome::Led(_))));
    // Enough for both partitions.
    for number in 2..=8 {
        submit(&leader, number).await;
    }
    resign_with_checkpoints(leader, &store).await;
    let leader = elected(&mut second, &store).await;
    assert_eq!(n_runs(&leader).await, 8);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_is_not_confirmed_acknowledges_no_heartbeat() {
    let store = store();
    let leader = elected(&mut candidate(&store, 1), &store).await;
    let (outbound, mut messages) = mpsc::channel(16);
    let session = SessionId(1);
    let attachment = Box::new(attachment(session));
    leader.handle.send(Input::Attach { attachment, outbound }).await.unwrap();
    let beat = |number| leader.handle.send(Input::Heartbeat { session, number });
    beat(1).await.unwrap();
    let mut next = async || tokio::time::timeout(LONG, messages.recv()).await;
    assert!(next().await.is_ok(), "welcome");
    assert!(next().await.is_ok(), "a receipt");

    store.hold_renewals(true);
    tokio::time::advance(2 * store.lease_ttl()).await;
    beat(2).await.unwrap();
    assert!(next().await.is_err(), "another coordinator may have declared the worker lost");
}

#[tokio::test(start_paused = true)]
async fn blobs_of_a_checkpoint_outlive_a_takeover_by_a_warm_standby() {
    let store = store();
    let (mut first, mut second) = (candidate(&store, 1), candidate(&store, 2));
    let leader = elected(&mut first, &store).await;
    submit(&leader, 1).await;
    assert!(matches!(second.campaign().await, Ok(Outcome::Led(_))));
    resign_with_checkpoints(leader, &store).await;
    assert_eq!(n_runs(&elected(&mut second, &store).await).await, 1);
    // A coordinator that starts from nothing finds all that the checkpoint needs.
    let mut third = claiming(&store, 3, Claim::Force);
    assert_eq!(n_runs(&elected(&mut third, &store).await).await, 1);
}
