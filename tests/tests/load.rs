//! Many concurrent clients.

use std::time::Duration;

use anyhow::Context as _;
use kahn_client::{Client, RunFilter, Submission};
use kahn_e2e::{Cluster, ClusterOptions, Store, WorkerOptions};
use kahn_model::{RunId, RunState};
use tokio::time::Instant;

const CLIENTS: usize = 20;
const RUNS_PER_CLIENT: usize = 5;
/// The limit for the 99th percentile of response times. The binary has the build profile of this
/// test; a debug build is several times slower than a release build.
const ANSWER_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 400 } else { 100 });
/// Hosts are noisy: one round within the limit is enough.
const ROUNDS_MAX: usize = 3;

fn hundred_tasks() -> String {
    let mut file = String::from("name: hundred\ntasks:\n");
    for task in 0..100 {
        file.push_str(&format!("  t{task}:\n    noop: {{}}\n"));
        if task >= 10 {
            file.push_str(&format!("    needs: [t{}]\n", task - 10));
        }
    }
    file
}

/// Response times, by call.
#[derive(Debug, Default)]
struct Answers {
    submit: Vec<Duration>,
    get: Vec<Duration>,
    list: Vec<Duration>,
}

impl Answers {
    fn add(&mut self, other: Self) {
        self.submit.extend(other.submit);
        self.get.extend(other.get);
        self.list.extend(other.list);
    }

    /// Returns the calls whose 99th percentile is above `max`.
    fn slower_than(&mut self, max: Duration) -> Vec<(&'static str, Duration)> {
        let kinds =
            [("submit", &mut self.submit), ("get", &mut self.get), ("list", &mut self.list)];
        kinds
            .map(|(what, times)| (what, p99(times)))
            .into_iter()
            .filter(|(_, t)| *t >= max)
            .collect()
    }
}

fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Submits its runs at once, then polls them and the list until all have ended.
async fn one_client(client: Client, document: String) -> anyhow::Result<Answers> {
    let mut answers = Answers::default();
    let mut runs: Vec<RunId> = Vec::new();
    for _ in 0..RUNS_PER_CLIENT {
        let asked = Instant::now();
        let submitted = client.submit(&Submission::new(&document)).await?;
        answers.submit.push(asked.elapsed());
        runs.push(submitted.run);
    }
    while let Some(run) = runs.last() {
        let asked = Instant::now();
        let found = client.get(*run).await?;
        answers.get.push(asked.elapsed());
        match found.state {
            RunState::Succeeded => drop(runs.pop()),
            state => anyhow::ensure!(!state.is_terminal(), "run {run} {state}"),
        }
        let asked = Instant::now();
        client.list(&RunFilter::default(), 50, None).await?;
        answers.list.push(asked.elapsed());
    }
    Ok(answers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_runs_of_twenty_clients_all_succeed_and_answers_come_at_once()
-> anyhow::Result<()> {
    let worker = WorkerOptions {
        name: "w1".into(),
        capacity: "cpu=2 memory=1Gi".into(),
        label: ("zone".into(), "eu".into()),
        ..WorkerOptions::default()
    };
    let options = ClusterOptions { store: Store::RedisEverysec, workers: vec![worker] };
    let cluster = Cluster::start(&options)?;
    let mut slow = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let mut answers = play(&cluster).await?;
        assert_eq!(answers.submit.len(), CLIENTS * RUNS_PER_CLIENT);
        let round = answers.slower_than(ANSWER_MAX);
        if round.is_empty() {
            slow.clear();
            break;
        }
        slow.push(round);
    }
    assert!(slow.is_empty(), "{slow:?}");
    assert_eq!(cluster.metric("kahn_auditor_repairs_total")?, 0.0);
    Ok(())
}

/// Runs all clients concurrently.
async fn play(cluster: &Cluster) -> anyhow::Result<Answers> {
    let token = cluster.client_token()?;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let client = Client::connect(&cluster.url(), Some(&token)).await?;
        clients.spawn(one_client(client, hundred_tasks()));
    }
    let mut answers = Answers::default();
    while let Some(done) = clients.join_next().await {
        answers.add(done.context("a client")??);
    }
    Ok(answers)
}
