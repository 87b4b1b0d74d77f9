//! Faults in a cluster: coordinator, worker and Redis are killed while a workflow runs.

use std::collections::BTreeSet;
use std::time::Duration;

use kahn_e2e::{
    Cluster, ClusterOptions, History, Store, WorkerOptions, dependencies, wait_for, wait_until,
};

fn worker(name: &str, capacity: &str, zone: &str) -> WorkerOptions {
    WorkerOptions {
        name: name.to_owned(),
        capacity: capacity.to_owned(),
        label: ("zone".to_owned(), zone.to_owned()),
        ..WorkerOptions::default()
    }
}

fn three_workers(store: Store) -> ClusterOptions {
    let workers = vec![
        worker("w1", "cpu=2 memory=4Gi", "eu"),
        worker("w2", "cpu=3 memory=8Gi", "eu"),
        worker("w3", "cpu=1 memory=2Gi", "us"),
    ];
    ClusterOptions { store, workers }
}

fn montage(cluster: &Cluster) -> anyhow::Result<String> {
    let recorded = cluster.write("montage.json", &kahn_e2e::montage())?.display().to_string();
    let file = cluster.write("montage.yaml", "")?.display().to_string();
    let scaled = ["import", "wfcommons", &recorded, "--time-scale", "0.02", "-o", &file];
    cluster.kahn(&scaled)?.ok()?;
    Ok(file)
}

fn n_ended(cluster: &Cluster, run: &str) -> Option<u64> {
    let shown = cluster.kahn(&["get", run, "--output", "json"]).ok()?.json().ok()?;
    shown["tasks"]["succeeded"].as_u64()
}

fn wait_until_ended(cluster: &Cluster, run: &str, n: u64) -> anyhow::Result<()> {
    let what = format!("{n} tasks of {run} to end");
    wait_until(&what, Duration::from_secs(120), || {
        n_ended(cluster, run).is_some_and(|found| found >= n)
    })
}

fn wait_for_end(cluster: &Cluster, run: &str) -> anyhow::Result<History> {
    let state = wait_for("the run to end", Duration::from_secs(180), || {
        let shown = cluster.kahn(&["get", run, "--output", "json"]).ok()?.json().ok()?;
        let state = shown["state"].as_str()?.to_owned();
        matches!(state.as_str(), "succeeded" | "failed" | "cancelled").then_some(state)
    })?;
    assert_eq!(state, "succeeded");
    cluster.history(run)
}

/// Returns attempts that were repeated although their worker was alive.
fn repeated_on_live_workers(history: &History, lost: &str) -> Vec<String> {
    let mut repeated = Vec::new();
    for (task, starts) in history.starts() {
        let without_last = &starts[..starts.len() - 1];
        repeated.extend(
            without_last
                .iter()
                .filter(|start| start.worker != lost)
                .map(|start| format!("{task} attempt {} on {}", start.attempt, start.worker)),
        );
    }
    repeated
}

#[test]
fn five_kills_of_the_coordinator_and_one_of_a_worker_lose_and_repeat_nothing() -> anyhow::Result<()>
{
    let mut cluster = Cluster::start(&three_workers(Store::RedisEverysec))?;
    let file = montage(&cluster)?;
    let plan = cluster.kahn(&["plan", &file, "--output", "json"])?.ok()?.json()?;
    let submitted = cluster.kahn(&["submit", &file, "--output", "json"])?.ok()?.json()?;
    let run = submitted["run"].as_str().unwrap_or_default().to_owned();
    for kill in 1..=5 {
        wait_until_ended(&cluster, &run, 40 * kill)?;
        cluster.kill_coordinator()?;
        if kill == 3 {
            wait_until_ended(&cluster, &run, 40 * kill + 20)?;
            cluster.kill_worker("w2")?;
        }
    }
    let history = wait_for_end(&cluster, &run)?;
    history.check_outcomes()?;
    history.check_order(&dependencies(&plan)?)?;
    assert!(history.has("worker_lost"), "the killed worker was not missed");
    assert_eq!(repeated_on_live_workers(&history, "w2"), Vec::<String>::new());
    assert_eq!(cluster.metric("kahn_auditor_repairs_total")?, 0.0);
    Ok(())
}

#[test]
fn a_killed_redis_that_keeps_its_disk_loses_nothing() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&three_workers(Store::RedisAlways))?;
    let file = montage(&cluster)?;
    let submitted = cluster.kahn(&["submit", &file, "--output", "json"])?.ok()?.json()?;
    let run = submitted["run"].as_str().unwrap_or_default().to_owned();
    for kill in 1..=3 {
        wait_until_ended(&cluster, &run, 60 * kill)?;
        if let Some(redis) = &mut cluster.redis {
            redis.kill9()?;
            redis.restart()?;
        }
    }
    let history = wait_for_end(&cluster, &run)?;
    history.check_outcomes()?;
    assert_eq!(repeated_on_live_workers(&history, "nobody"), Vec::<String>::new());
    assert_eq!(cluster.metric("kahn_auditor_repairs_total")?, 0.0);
    Ok(())
}

#[test]
fn a_drained_worker_finishes_what_it_holds_and_leaves_by_itself() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&three_workers(Store::Embedded))?;
    let file = cluster.write(
        "sleeps.yaml",
        "name: sleeps\ntasks:\n  s:\n    matrix: { i: [1, 2, 3, 4, 5, 6] }\n    run: sleep 1\n",
    )?;
    let file = file.display().to_string();
    let submitted = cluster.kahn(&["submit", &file, "--output", "json"])?.ok()?.json()?;
    let run = submitted["run"].as_str().unwrap_or_default().to_owned();
    wait_until("all to start", Duration::from_secs(10), || {
        cluster.history(&run).is_ok_and(|history| history.starts().len() == 6)
    })?;
    cluster.worker("w1")?.signal("TERM")?;
    assert_eq!(cluster.worker("w1")?.wait(Duration::from_secs(20))?, 0);
    let history = wait_for_end(&cluster, &run)?;
    assert!(!history.has("task_retried"), "draining cost an attempt");
    let workers: BTreeSet<&str> = history.of("task_started").map(|e| e.worker.as_str()).collect();
    assert!(workers.contains("w1"));
    Ok(())
}

fn cordoned(cluster: &Cluster) -> anyhow::Result<BTreeSet<String>> {
    let shown = cluster.kahn(&["workers", "--output", "json"])?.ok()?.json_lines()?;
    let cordoned = shown.iter().filter(|worker| worker["is_cordoned"] == true);
    Ok(cordoned.filter_map(|worker| worker["worker"].as_str().map(str::to_owned)).collect())
}

#[test]
fn a_cordon_outlives_the_coordinator_and_the_worker() -> anyhow::Result<()> {
    for store in [Store::Embedded, Store::RedisEverysec] {
        let mut cluster = Cluster::start(&three_workers(store))?;
        cluster.kahn(&["workers", "cordon", "w1"])?.ok()?;
        cluster.kahn(&["workers", "cordon", "w2"])?.ok()?;
        cluster.kahn(&["workers", "uncordon", "w2"])?.ok()?;
        cluster.kill_worker("w1")?;
        cluster.kill_coordinator()?;
        cluster.restart_worker("w1")?;
        wait_until("w1 to attach", Duration::from_secs(60), || {
            cordoned(&cluster).is_ok_and(|names| names.contains("w1"))
        })?;
        assert_eq!(cordoned(&cluster)?, BTreeSet::from(["w1".to_owned()]));
        let file = cluster
            .write("one.yaml", "tasks:\n  s:\n    matrix: { i: [1, 2, 3] }\n    run: 'true'\n")?;
        let file = file.display().to_string();
        let summary =
            cluster.kahn(&["submit", &file, "--wait", "--output", "json"])?.ok()?.json()?;
        let history = cluster.history(summary["run"].as_str().unwrap_or_default())?;
        assert!(history.of("task_leased").all(|event| event.worker != "w1"));
    }
    Ok(())
}

#[test]
fn nothing_but_health_answers_without_a_token() -> anyhow::Result<()> {
    let cluster = Cluster::start(&three_workers(Store::Embedded))?;
    let token = cluster.write("other.token", &"x".repeat(43))?;
    std::process::Command::new("chmod").arg("600").arg(&token).status()?;
    let env = [
        ("KAHN_COORDINATOR_URL".to_owned(), cluster.url()),
        ("KAHN_TOKEN_FILE".to_owned(), token.display().to_string()),
    ];
    let place = cluster.path("backups").display().to_string();
    for command in [vec!["list"], vec!["workers"], vec!["backup", &place]] {
        let answer = kahn_e2e::kahn(&command, &env)?;
        assert_eq!(answer.code, 3, "{command:?}: {answer:?}");
    }
    Ok(())
}
