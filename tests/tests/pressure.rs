//! Workers under pressure: the share that they accept, and how it is reported.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use kahn_e2e::{Cluster, ClusterOptions, Process, Store, WorkerOptions, wait_until};
use serde_json::Value;

/// Starts a cluster of one worker with these settings of `[worker.pressure]`.
fn cluster(settings: &[(&str, String)]) -> anyhow::Result<Cluster> {
    let variable = |(name, value): &(&str, String)| {
        (format!("KAHN_WORKER__PRESSURE__{}", name.to_uppercase()), value.clone())
    };
    let mode = ("mode", "auto".to_owned());
    let worker = WorkerOptions {
        name: "w1".to_owned(),
        capacity: "cpu=4 memory=4Gi".to_owned(),
        label: ("zone".to_owned(), "eu".to_owned()),
        environment: settings.iter().chain([&mode]).map(variable).collect(),
        ..WorkerOptions::default()
    };
    Cluster::start(&ClusterOptions { store: Store::Embedded, workers: vec![worker] })
}

fn accepts(cluster: &Cluster) -> anyhow::Result<Value> {
    let workers = cluster.kahn(&["workers", "--output", "json"])?.ok()?.json_lines()?;
    Ok(workers.first().map(|worker| worker["accepts"].clone()).unwrap_or_default())
}

fn wait_until_accepts(
    cluster: &Cluster,
    what: &str,
    is_wanted: impl Fn(&Value) -> bool,
) -> anyhow::Result<()> {
    let what = format!("w1 to accept {what}");
    wait_until(&what, Duration::from_secs(60), || accepts(cluster).is_ok_and(|a| is_wanted(&a)))
}

fn n_started(cluster: &Cluster, run: &str) -> usize {
    cluster.history(run).map_or(0, |history| history.starts().len())
}

/// A fake cgroup with full memory pressure, until it is released.
#[derive(Debug)]
struct FakePressure {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakePressure {
    fn begin(group: &Path) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (file, seen) = (memory_pressure(group), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            let mut total = 0_u64;
            // Increases the total like the kernel's counter.
            while !seen.load(Ordering::Relaxed) {
                total += 1_000_000;
                write_total(&file, total);
                std::thread::sleep(Duration::from_millis(10)); // poll
            }
        });
        Self { is_over, thread: Some(thread) }
    }

    fn end(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for FakePressure {
    fn drop(&mut self) {
        self.end();
    }
}

fn memory_pressure(group: &Path) -> PathBuf {
    group.join("memory.pressure")
}

/// Replaces the file atomically: a reader sees the old or the new content.
fn write_total(file: &Path, total: u64) {
    let text = format!("some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\n");
    let new = file.with_extension("new");
    fs::write(&new, text).and_then(|()| fs::rename(&new, file)).expect("a directory of the test");
}

#[test]
fn a_worker_under_pressure_gets_what_its_share_has_room_for_and_says_why() -> anyhow::Result<()> {
    let group = tempfile::tempdir()?;
    write_total(&memory_pressure(group.path()), 0);
    let cluster = cluster(&[
        ("cgroup", group.path().display().to_string()),
        ("period", "100ms".to_owned()),
        ("floor", "25".to_owned()),
        ("available_memory", "0".to_owned()),
        ("cpu", "0".to_owned()),
        ("io", "0".to_owned()),
    ])?;
    assert_eq!(accepts(&cluster)?["percent"], 100.0);
    let mut pressure = FakePressure::begin(group.path());
    wait_until_accepts(&cluster, "25%", |accepts| accepts["percent"] == 25.0)?;
    let said = accepts(&cluster)?;
    assert_eq!(
        (&said["pressure"]["kind"], &said["pressure"]["limit_percent"]),
        (&Value::from("memory"), &Value::from(10.0))
    );
    assert!(said["since"].is_string(), "{said}");
    let shown = cluster.kahn(&["workers"])?.ok()?.stdout;
    assert!(shown.contains("25% (memory pressure 100% > 10%) since 2"), "{shown}");

    let go = group.path().join("go");
    let file = cluster.write(
        "wait.yaml",
        &format!(
            "name: wait\ntasks:\n  t:\n    matrix: {{ i: [1, 2, 3] }}\n    resources: {{ cpu: 1 }}\n    \
             run: until [ -e {} ]; do sleep 0.05; done\n",
            go.display()
        ),
    )?;
    let submitted =
        cluster.kahn(&["submit", &file.display().to_string(), "--output", "json"])?.ok()?.json()?;
    let run = submitted["run"].as_str().unwrap_or_default().to_owned();
    wait_until("one task to start", Duration::from_secs(20), || n_started(&cluster, &run) == 1)?;
    let shown = cluster.kahn(&["get", &run, "--tasks", "--output", "json"])?.ok()?.json()?;
    let tasks = shown["task_list"].as_array().cloned().unwrap_or_default();
    let waiting: Vec<&Value> = tasks.iter().filter(|task| task["state"] == "ready").collect();
    assert_eq!(waiting.len(), 2, "{shown}");
    let task = waiting[0]["task"].as_str().unwrap_or_default();
    let why = cluster.kahn(&["explain", &run, task, "--output", "json"])?.ok()?.json()?;
    assert_eq!(why["code"], "pressure", "{why}");
    let message = why["message"].as_str().unwrap_or_default();
    assert!(message.contains("w1 accepts 25% of its capacity: memory pressure"), "{why}");

    pressure.end();
    wait_until_accepts(&cluster, "all", |accepts| accepts["percent"] == 100.0)?;
    assert!(accepts(&cluster)?["pressure"].is_null());
    wait_until("all to start", Duration::from_secs(20), || n_started(&cluster, &run) == 3)?;
    fs::write(&go, "")?;
    wait_until("the run to end", Duration::from_secs(20), || {
        let shown = cluster.kahn(&["get", &run, "--output", "json"]);
        shown.ok().and_then(|a| a.json().ok()).is_some_and(|run| run["state"] == "succeeded")
    })?;
    assert_eq!(cluster.metric("kahn_auditor_repairs_total")?, 0.0);
    Ok(())
}

/// Starts many more threads than a busy host runs anyway, at low priority.
fn start_busy_threads(dir: &Path) -> anyhow::Result<Vec<Process>> {
    let n = std::thread::available_parallelism()?.get() * 12;
    let hog = |i: usize| {
        let mut command = Command::new("nice");
        command.args(["-n", "19", "sh", "-c", "while :; do :; done"]);
        Process::start(command, &dir.join(format!("hog-{i}.log")))
    };
    (0..n).map(hog).collect()
}

#[test]
fn a_worker_on_a_machine_with_many_more_threads_than_processors_accepts_less_for_as_long()
-> anyhow::Result<()> {
    let cluster = cluster(&[
        ("period", "200ms".to_owned()),
        ("cpu", "1000".to_owned()),
        ("memory", "0".to_owned()),
        ("available_memory", "0".to_owned()),
        ("io", "0".to_owned()),
    ])?;
    let dir = tempfile::tempdir()?;
    let busy = start_busy_threads(dir.path())?;
    wait_until_accepts(&cluster, "less", |accepts| accepts["pressure"]["kind"] == "cpu")?;
    assert!(accepts(&cluster)?["percent"].as_f64().is_some_and(|share| share < 100.0));
    drop(busy);
    wait_until_accepts(&cluster, "all", |accepts| accepts["percent"] == 100.0)
}
