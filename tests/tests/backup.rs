//! Backups of a cluster at work, and what becomes of them in another store.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kahn_client::{Client, Submission};
use kahn_e2e::{
    Answer, Cluster, ClusterOptions, Process, Store, WorkerOptions, kahn, kahn_path, wait_until,
};
use kahn_model::{RunId, RunState};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const TIMEOUT: Duration = Duration::from_secs(120);
/// The size of the large run of the measurement, unless `KAHN_BACKUP_TASKS` says otherwise.
const TASKS: usize = 10_000;

fn options(store: Store) -> ClusterOptions {
    let worker = WorkerOptions {
        name: "w1".into(),
        capacity: "cpu=4 memory=4Gi".into(),
        label: ("zone".into(), "eu".into()),
        ..WorkerOptions::default()
    };
    ClusterOptions { store, workers: vec![worker] }
}

async fn client(cluster: &Cluster) -> anyhow::Result<Client> {
    Ok(Client::connect(&cluster.url(), Some(&cluster.client_token()?)).await?)
}

/// Runs that are submitted and end all the time.
struct Load {
    stop: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<()>>,
    acknowledged: watch::Receiver<Vec<RunId>>,
}

const SHORT: &str = "\
name: short
tasks:
  a: { run: 'echo \"n:=1\" >> \"$KAHN_OUTPUT\"; echo hello' }
  b: { needs: [a], run: 'sleep 0.2' }
  c: { needs: [b], run: 'exit 3', retry: { max_attempts: 2 } }
  d: { needs: [{ task: c, when: completed }], noop: {} }
";

impl Load {
    fn start(client: Client) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (tx, acknowledged) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            while !*stopped.borrow() {
                let submitted = client.submit(&Submission::new(SHORT)).await?;
                tx.send_modify(|runs| runs.push(submitted.run));
                sleep(Duration::from_millis(100)).await; // poll
            }
            Ok(())
        });
        Self { stop, task, acknowledged }
    }

    fn acknowledged(&self) -> Vec<RunId> {
        self.acknowledged.borrow().clone()
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        self.task.await?
    }
}

/// What a client can learn about a run.
fn shown(cluster: &Cluster, run: RunId) -> anyhow::Result<(String, String)> {
    let run = run.to_string();
    let get = cluster.kahn(&["get", &run, "--tasks", "--output", "json"])?.ok()?.stdout;
    Ok((get, cluster.kahn(&["events", &run, "--output", "json"])?.ok()?.stdout))
}

async fn state(client: &Client, run: RunId) -> anyhow::Result<RunState> {
    Ok(client.get(run).await.with_context(|| format!("run {run} is lost"))?.state)
}

async fn wait_for_end(client: &Client, run: RunId) -> anyhow::Result<RunState> {
    let since = Instant::now();
    loop {
        let found = state(client, run).await?;
        if found.is_terminal() {
            return Ok(found);
        }
        ensure!(since.elapsed() < TIMEOUT, "run {run} is still {found}");
        sleep(Duration::from_millis(50)).await; // poll
    }
}

fn backup(cluster: &Cluster, dir: &Path) -> anyhow::Result<Value> {
    let dir = dir.display().to_string();
    cluster.kahn(&["backup", &dir, "--output", "json"])?.ok()?.json()
}

fn restore(url: &str, store: &str, data_dir: &Path, flags: &[&str]) -> anyhow::Result<Answer> {
    let data_dir = data_dir.display().to_string();
    let args = ["restore", url, "--store", store, "--data-dir", &data_dir, "--output", "json"];
    kahn(&[&args, flags].concat(), &[])
}

/// A run that had ended before the backup, as it was shown then.
type Ended = (RunId, (String, String));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_under_load_is_backed_up_and_goes_on_in_another_store() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let cluster = Cluster::start(&options(Store::RedisEverysec))?;
    let load = Load::start(client(&cluster).await?);
    let asked = client(&cluster).await?;
    // It lasts until after the backup, and its worker is lost.
    let go = dir.path().join("go");
    let held = format!(
        "name: held\ntasks:\n  a: {{ run: 'until test -e {}; do sleep 0.05; done' }}\n  \
         b: {{ needs: [a], noop: {{}} }}\n",
        go.display()
    );
    let held = asked.submit(&Submission::new(held)).await?.run;
    let mut ended: Vec<Ended> = Vec::new();
    while ended.len() < 3 {
        let run = load.acknowledged().get(ended.len()).copied();
        let Some(run) = run else {
            sleep(Duration::from_millis(20)).await; // poll
            continue;
        };
        assert_eq!(wait_for_end(&asked, run).await?, RunState::Failed);
        ended.push((run, shown(&cluster, run)?));
    }
    let before = load.acknowledged();
    let written = tokio::task::block_in_place(|| backup(&cluster, dir.path()))?;
    load.stop().await?;
    let n_live = written["runs"]["live"].as_u64().context("the number of live runs")?;
    ensure!(n_live > 0 && written["runs"]["finished"].as_u64() >= Some(3), "{written}");
    assert_eq!(state(&asked, held).await?, RunState::Active);
    drop(cluster);
    std::fs::write(&go, "")?;

    let url = written["backup"].as_str().context("the place of the backup")?;
    let whole = kahn(&["restore", url, "--check"], &[])?.ok()?.stdout;
    ensure!(whole.contains("is whole"), "{whole}");
    for store in [Store::Embedded, Store::RedisAlways] {
        let restored = Cluster::start_on(&options(store), &[], |data_dir, store| {
            let done = restore(url, store, data_dir, &[])?.ok()?.json()?;
            ensure!(done["backup_of"] == written["cluster"], "{done}");
            ensure!(done["cluster"] != written["cluster"], "{done}");
            Ok(())
        })?;
        check_restored(&restored, &ended, &before, held).await?;
        check_refusal(&restored, url)?;
    }
    Ok(())
}

async fn check_restored(
    cluster: &Cluster,
    ended: &[Ended],
    before: &[RunId],
    held: RunId,
) -> anyhow::Result<()> {
    for (run, expected) in ended {
        assert_eq!(&shown(cluster, *run)?, expected);
        // The output is not in the backup, and whoever asks for it is told.
        let log = cluster.kahn(&["logs", &run.to_string(), "a"])?.ok()?;
        ensure!(log.stderr.contains("another coordinator has received it"), "{log:?}");
    }
    let client = client(cluster).await?;
    for run in before {
        assert_eq!(wait_for_end(&client, *run).await?, RunState::Failed);
        let history = cluster.history(&run.to_string())?;
        history.check_outcomes()?;
        let outcomes = history.of("task_succeeded").chain(history.of("task_failed"));
        assert_eq!(outcomes.count(), 4);
    }
    assert_eq!(wait_for_end(&client, held).await?, RunState::Succeeded);
    let new = client.submit(&Submission::new("tasks:\n  a: { noop: {} }\n")).await?.run;
    assert_eq!(wait_for_end(&client, new).await?, RunState::Succeeded);
    let log = cluster.kahn(&["logs", &new.to_string(), "a"])?;
    assert_eq!(log.code, 0, "{}", log.stderr);
    assert_eq!(cluster.metric("kahn_auditor_repairs_total")?, 0.0);
    Ok(())
}

/// Checks that a store in use is not restored into.
fn check_refusal(cluster: &Cluster, url: &str) -> anyhow::Result<()> {
    let elsewhere = tempfile::tempdir()?;
    let (store, data_dir, expected) = match &cluster.redis {
        Some(redis) => (redis.url(), elsewhere.path().to_owned(), "the store holds cluster"),
        None => ("embedded".to_owned(), cluster.path("coordinator"), "in use"),
    };
    let refused = restore(url, &store, &data_dir, &[])?;
    ensure!(refused.code == 3 && refused.stderr.contains(expected), "{refused:?}");
    Ok(())
}

#[test]
fn output_in_a_blob_store_is_shown_again_by_the_same_cluster_and_no_other() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let blobs = dir.path().join("blobs").display().to_string();
    let with_blobs = [("KAHN_COORDINATOR__BLOBS__URL".to_owned(), blobs.clone())];
    let cluster = Cluster::start_with(&options(Store::Embedded), &with_blobs)?;
    let file = "tasks:\n  a: { run: 'echo hello' }\n";
    let file = cluster.write("dag.yaml", file)?.display().to_string();
    let submitted = cluster.kahn(&["submit", &file, "--wait", "--output", "json"])?.ok()?.json()?;
    let run = submitted["run"].as_str().context("the run")?.to_owned();
    let kept = cluster.worker_dir("w1").join("output");
    wait_until("the output to be stored", TIMEOUT, || {
        std::fs::read_dir(&kept).is_ok_and(|mut files| files.next().is_none())
    })?;
    let written = backup(&cluster, &dir.path().join("backups"))?;
    let url = written["backup"].as_str().context("the place of the backup")?;
    drop(cluster);

    let other = dir.path().join("other");
    restore(url, "embedded", &other, &[])?.ok()?;
    let mut command = Command::new(kahn_path());
    command.args(["coordinator", "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"]);
    command.envs(with_blobs.iter().cloned()).env("KAHN_DATA_DIR", &other);
    let mut refused = Process::start(command, &dir.path().join("refused.log"))?;
    assert_eq!(refused.wait(TIMEOUT)?, 3, "{}", refused.printed());
    ensure!(refused.printed().contains("belongs to another cluster"), "{}", refused.printed());

    let restored = Cluster::start_on(&options(Store::Embedded), &with_blobs, |data_dir, store| {
        let done = restore(url, store, data_dir, &["--keep-id"])?.ok()?.json()?;
        ensure!(done["cluster"] == written["cluster"], "{done}");
        Ok(())
    })?;
    let log = restored.kahn(&["logs", &run, "a"])?.ok()?;
    assert_eq!((log.stdout.as_str(), log.stderr.as_str()), ("hello\n", ""));
    Ok(())
}

/// One task that everything waits for, and a lot of tasks.
fn large(n: usize) -> String {
    let mut file = String::from("name: large\ntasks:\n  gate: { sleep: 1000s }\n");
    for task in 0..n {
        file.push_str(&format!("  t{task}: {{ noop: {{}}, needs: [gate] }}\n"));
    }
    file
}

/// Measures how long submitting a small run takes, until `done`.
async fn submit_times(client: &Client, done: impl Fn() -> bool) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::new();
    while !done() || times.len() < 50 {
        let asked = Instant::now();
        client.submit(&Submission::new("tasks:\n  a: { noop: {} }\n")).await?;
        times.push(asked.elapsed());
        sleep(Duration::from_millis(5)).await; // poll
    }
    times.sort_unstable();
    Ok(times)
}

fn quantiles(times: &[Duration]) -> (Duration, Duration, Duration) {
    let at = |permille: usize| times[(times.len() - 1) * permille / 1000];
    (at(500), at(990), at(1000))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_goes_on_answering_during_a_backup_of_many_live_tasks() -> anyhow::Result<()> {
    let wanted = std::env::var_os("KAHN_BACKUP_TASKS");
    let n = wanted.and_then(|n| n.to_str()?.parse().ok()).unwrap_or(TASKS);
    let dir = tempfile::tempdir()?;
    let cluster = Cluster::start(&options(Store::RedisEverysec))?;
    let client = client(&cluster).await?;
    client.submit(&Submission::new(large(n))).await?;
    let idle = submit_times(&client, || true).await?;
    let (tx, done) = watch::channel(None);
    let (busy, written) = tokio::join!(submit_times(&client, || done.borrow().is_some()), async {
        let mut args = vec!["backup".to_owned(), dir.path().display().to_string()];
        args.extend(["--output".to_owned(), "json".to_owned()]);
        let environment = cluster.client_environment();
        let backup = tokio::task::spawn_blocking(move || {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            kahn(&args, &environment)
        });
        let written = backup.await;
        tx.send_replace(Some(()));
        anyhow::Ok(written??.ok()?.json()?)
    });
    let (busy, written) = (busy?, written?);
    assert_eq!(written["tasks"].as_u64().map(|tasks| tasks >= n as u64), Some(true));
    let (idle, busy) = (quantiles(&idle), quantiles(&busy));
    eprintln!("{n} live tasks: {written}\nsubmit, p50, p99, max: {idle:?}, during it {busy:?}");
    // A leader that waited for the backup would take as long as the backup.
    assert!(busy.2 < Duration::from_secs(3), "{busy:?}");
    Ok(())
}
