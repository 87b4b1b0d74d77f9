//! Resource limits of attempts, observed from outside, with real workers and processes.
//!
//! These tests need control groups that a worker can write: root, or a delegated group. If the
//! worker reports that it has none, they check what holds without them.

use std::path::PathBuf;
use std::time::Duration;

use kahn_e2e::{Cluster, ClusterOptions, Store, WorkerOptions, wait_until};
use serde_json::Value;

fn worker(environment: &[(&str, &str)]) -> WorkerOptions {
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    WorkerOptions {
        name: "w1".into(),
        capacity: "cpu=4 memory=1Gi".into(),
        label: ("zone".into(), "eu".into()),
        environment: environment.collect(),
        program: None,
    }
}

fn cluster(environment: &[(&str, &str)]) -> anyhow::Result<Cluster> {
    let workers = vec![worker(environment)];
    Cluster::start(&ClusterOptions { store: Store::Embedded, workers })
}

/// Returns whether the worker reports that control groups limit its attempts.
#[expect(clippy::print_stderr, reason = "a test reports what it skips")]
fn has_groups(cluster: &Cluster) -> anyhow::Result<bool> {
    let workers = cluster.kahn(&["workers", "--output", "json"])?.ok()?.json_lines()?;
    let label = workers.iter().find_map(|worker| worker["labels"]["limits"].as_str());
    let has_groups = label.is_some_and(|label| label.starts_with("cgroup-v"));
    if !has_groups {
        eprintln!("NOT RUN: what needs control groups, since the worker has {label:?}");
    }
    Ok(has_groups)
}

fn submit(cluster: &Cluster, file: &str, text: &str) -> anyhow::Result<Value> {
    let file = cluster.write(file, text)?.display().to_string();
    cluster.kahn(&["submit", &file, "--wait", "--output", "json"])?.json()
}

const HOG: &str = r#"name: hog
tasks:
  neighbour:
    run: for n in $(seq 20); do sleep 0.1; echo "still $n"; done
    resources: { memory: 32Mi }
  hog:
    shell: bash
    run: |
      sleep 0.3
      head -c 110M /dev/zero | tail | wc -c
    resources: { memory: 32Mi }
    retry: { max_attempts: 4, memory_multiplier: 3, memory_max: 192Mi, backoff: { initial: 10ms } }
"#;

#[test]
fn a_task_beyond_its_memory_is_killed_alone_and_succeeds_with_more() -> anyhow::Result<()> {
    let cluster = cluster(&[])?;
    let summary = submit(&cluster, "hog.yaml", HOG)?;
    let run = summary["run"].as_str().unwrap_or_default();
    if !has_groups(&cluster)? {
        assert_eq!(summary["state"], "failed", "{summary}");
        return Ok(());
    }
    assert_eq!(summary["state"], "succeeded", "{summary}");
    let shown = cluster.kahn(&["get", run, "--tasks", "--output", "json"])?.ok()?.json()?;
    let (neighbour, hog) = (&shown["task_list"][0], &shown["task_list"][1]);
    // 32, 96 and 192 MiB: the second is slightly too small, the third is the maximum.
    assert_eq!((&hog["state"], &hog["attempt"]), (&"succeeded".into(), &3.into()), "{shown}");
    assert_eq!(neighbour["attempt"], 1, "{shown}");
    assert!(hog["memory_peak_bytes"].as_u64() > Some(80 << 20), "{hog}");
    assert!(hog["cpu_seconds"].as_f64() > Some(0.0), "{hog}");
    let events = cluster.kahn(&["events", run, "--output", "json"])?.ok()?.json_lines()?;
    let retried: Vec<&Value> = events.iter().filter(|e| e["type"] == "task_retried").collect();
    assert_eq!(retried.len(), 2, "{events:?}");
    for event in retried {
        assert_eq!((&event["task"], &event["cause"]), (&"hog".into(), &"out_of_memory".into()));
        assert!(event["memory_peak_bytes"].as_u64() >= Some(32 << 20), "{event}");
    }
    let text = cluster.kahn(&["get", run, "--tasks"])?.ok()?.stdout;
    assert!(text.contains("MEMORY") && text.contains("READ/WRITTEN"), "{text}");
    let log = cluster.kahn(&["logs", run, "neighbour"])?.ok()?.stdout;
    assert_eq!(log.lines().count(), 20, "{log}");
    Ok(())
}

const BOMB: &str = r#"name: bomb
tasks:
  neighbour:
    run: for n in $(seq 40); do sleep 0.1; done
  bomb:
    shell: bash
    run: |
      :(){ :|:& };:
      sleep 1000
    timeouts: { run: 2s, grace: 100ms }
"#;

#[test]
fn a_fork_bomb_ends_at_its_timeout_and_its_neighbour_goes_on() -> anyhow::Result<()> {
    let cluster = cluster(&[("KAHN_WORKER__LIMITS__PIDS", "300")])?;
    if !has_groups(&cluster)? {
        // Nothing would contain the fork bomb.
        return Ok(());
    }
    let summary = submit(&cluster, "bomb.yaml", BOMB)?;
    assert_eq!(summary["failed"][0]["cause"], "run_timeout", "{summary}");
    assert_eq!(summary["tasks"]["succeeded"], 1, "{summary}");
    let run = summary["run"].as_str().unwrap_or_default();
    let shown = cluster.kahn(&["get", run, "--tasks", "--output", "json"])?.ok()?.json()?;
    let took = shown["task_list"][1]["seconds"].as_f64();
    assert!(took < Some(10.0), "{shown}");
    Ok(())
}

const DAEMON: &str = r#"name: daemon
tasks:
  daemon:
    run: |
      setsid env -i /bin/sh -c '/usr/bin/setsid /bin/sleep 16180.33 & exit' </dev/null >/dev/null 2>&1 &
      sleep 1000
"#;

/// Returns the number of live processes that run `sleep` with this argument.
fn n_sleeping(argument: &str) -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let lines = entries.flatten().filter_map(|e| std::fs::read(e.path().join("cmdline")).ok());
    lines.filter(|line| line.split(|b| *b == 0).any(|word| word == argument.as_bytes())).count()
}

#[test]
fn what_a_killed_worker_left_is_gone_after_its_next_start() -> anyhow::Result<()> {
    let mut cluster = cluster(&[])?;
    let has_groups = has_groups(&cluster)?;
    let file = cluster.write("daemon.yaml", DAEMON)?;
    let record = file.parent().map(|dir| dir.join("w1/groups")).unwrap_or_default();
    let groups = || std::fs::read_to_string(&record).unwrap_or_default();
    cluster.kahn(&["submit", &file.display().to_string()])?.ok()?;
    let limit = Duration::from_secs(20);
    wait_until("the daemon to run", limit, || n_sleeping("16180.33") == 1)?;
    let left: Vec<PathBuf> = groups().lines().map(PathBuf::from).collect();
    assert_eq!(left.iter().filter(|dir| dir.exists()).count(), left.len());
    cluster.kill_worker("w1")?;
    assert_eq!(n_sleeping("16180.33"), 1);
    if !has_groups {
        // Without groups the process cannot be attributed to its task. Removes it.
        std::process::Command::new("pkill").args(["-f", "16180.33"]).status()?;
        return Ok(());
    }
    cluster.add_worker(worker(&[]))?;
    wait_until("the daemon to be dead", limit, || n_sleeping("16180.33") == 0)?;
    wait_until("the groups to be gone", limit, || left.iter().all(|dir| !dir.exists()))?;
    Ok(())
}
