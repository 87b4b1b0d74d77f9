//! Archived runs over the wire.
//!
//! `KAHN_RUNS=2000 cargo test -p kahn-coordinator --test archived -- --nocapture` prints how long
//! lists take.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[expect(dead_code, reason = "shared with the tests of hostile clients and workers")]
#[path = "hostile/support.rs"]
mod support;

use std::time::Duration;

use kahn_proto::api::runs_client::RunsClient;
use kahn_proto::api::{CancelRequest, GetRequest, ListRequest, ListResponse, Run};
use kahn_proto::worker::LogPiece;
use support::{Server, header, piece};
use tokio::time::Instant;

/// How long to wait for a run to be archived.
const TIMEOUT: Duration = Duration::from_secs(600);
/// The number of tasks of each run.
const N_TASKS: usize = 100;
/// The number of lists that are timed.
const N_LISTS: usize = 200;

/// A coordinator that archives runs this long after their end.
async fn archiving(after: Duration) -> Server {
    Server::start_with(|config| {
        config.blobs.url = Some("memory:".into());
        config.retention.archive_after = after;
        config.retention.check_every = Duration::from_millis(50);
    })
    .await
}

async fn get(server: &Server, run: &str) -> Run {
    let mut client = RunsClient::new(server.channel().await);
    let request = server.as_client(GetRequest { run: run.to_owned() });
    client.get(request).await.unwrap().into_inner()
}

async fn wait_until_archived(server: &Server, run: &str) {
    let archived = async {
        while !get(server, run).await.is_archived {
            tokio::time::sleep(Duration::from_millis(20)).await; // poll
        }
    };
    tokio::time::timeout(TIMEOUT, archived).await.unwrap();
}

#[tokio::test]
async fn output_that_comes_after_its_run_was_archived_is_taken_and_no_other() {
    let server = archiving(Duration::ZERO).await;
    let holding = server.lease_of_one_attempt().await;
    server.finish(&holding, true).await;
    wait_until_archived(&server, &holding.run).await;
    let late = |number: u32| {
        let mut lease = holding.lease.clone();
        lease.number = number;
        let data = "late\n".into();
        LogPiece { lease: Some(lease), offset: 0, data, is_sealed: true }
    };
    let receipts = server.ship(vec![late(2), late(1)]).await;
    assert_eq!(receipts[0].refusal, "the task has had no such attempt");
    assert_eq!((&*receipts[1].refusal, receipts[1].is_complete), ("", true));
    assert_eq!(server.logs(&holding.run, "a").await, "late\n");
}

async fn list(server: &Server, client: &mut RunsClient<tonic::transport::Channel>) -> ListResponse {
    client.list(server.as_client(ListRequest::default())).await.unwrap().into_inner()
}

/// Returns the 99th percentile of the time that a list takes.
async fn p99_of_lists(server: &Server) -> Duration {
    let mut client = RunsClient::new(server.channel().await);
    let mut times = Vec::new();
    for _ in 0..N_LISTS {
        let began_at = Instant::now();
        list(server, &mut client).await;
        times.push(began_at.elapsed());
    }
    times.sort_unstable();
    times[N_LISTS * 99 / 100]
}

#[tokio::test]
async fn lists_are_the_same_when_runs_are_archived() {
    let n_runs = n_runs();
    // So long that all are submitted and listed before; otherwise only the figures are wrong.
    let server = archiving(Duration::from_millis(5000 + 100 * n_runs)).await;
    let mut client = RunsClient::new(server.channel().await);
    let tasks: Vec<_> = (0..N_TASKS).map(|n| format!("t{n}: {{noop: true}}")).collect();
    let file = format!("tasks: {{{}}}", tasks.join(", "));
    let mut runs = Vec::new();
    for _ in 0..n_runs {
        let parts = vec![header(), piece(file.clone().into())];
        let run = server.submit(parts).await.unwrap().run;
        let request = CancelRequest { run: run.clone(), reason: "enough".into() };
        client.cancel(server.as_client(request)).await.unwrap();
        runs.push(run);
    }
    let before = p99_of_lists(&server).await;
    let mut listed = list(&server, &mut client).await;
    for run in &runs {
        wait_until_archived(&server, run).await;
    }
    let after = p99_of_lists(&server).await;
    println!("{} runs: p99 of list {before:?} before, {after:?} after", runs.len());
    listed.runs.iter_mut().for_each(|run| run.is_archived = true);
    assert_eq!(list(&server, &mut client).await, listed);
}

#[expect(clippy::disallowed_methods, reason = "a test has no configuration of its own")]
fn n_runs() -> u64 {
    std::env::var("KAHN_RUNS").map_or(20, |n| n.parse().unwrap())
}
