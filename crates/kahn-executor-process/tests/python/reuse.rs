//! Selection and replacement of interpreters.

use std::sync::Arc;
use std::time::Duration;

use kahn_executor_process::PythonSettings;
use kahn_model::Text;

use crate::support::{Worker, is_alive, n_of_worker};

const SOURCE: &str = r#"
import os, sys, time
kept = []
def pid(x=None): return os.getpid()
def grow(x):
    kept.append(bytearray(64 << 20))
    return os.getpid()
def slow(x):
    start = time.monotonic()
    time.sleep(0.1)
    return [start, time.monotonic()]
def option(x): return [os.getpid(), sys.flags.dev_mode]
def spin(x):
    print("up", os.getpid())
    while True: pass
"#;

#[tokio::test]
async fn a_warm_interpreter_serves_its_environment_again() {
    let worker = Worker::new(SOURCE);
    let first = worker.call("pid", "null").await.result();
    assert_eq!(worker.call("pid", "null").await.result(), first);
    assert_eq!(worker.call("os:getpid", "null").await.result(), first);

    let mut assignment = worker.assignment("os:getpid", "null");
    Arc::make_mut(&mut assignment.work).working_dir = None;
    let elsewhere = worker.start(assignment).ended().await.result();
    assert_ne!(elsewhere, first);

    let mut assignment = worker.assignment("option", "0");
    Arc::make_mut(&mut assignment.work).env.push(("PYTHONDEVMODE".into(), Text::new("1")));
    let with_option = worker.start(assignment).ended().await.result();
    assert!(with_option.ends_with(",true]") && !with_option.contains(&*first), "{with_option}");
}

#[tokio::test]
async fn no_more_interpreters_run_than_may() {
    let settings = PythonSettings { interpreters_max: Some(2), ..PythonSettings::default() };
    let worker = Worker::with(settings, SOURCE);
    let calls: Vec<_> = (0..6).map(|_| worker.start(worker.assignment("slow", "0"))).collect();
    let mut spans: Vec<[f64; 2]> = Vec::new();
    for call in calls {
        spans.push(serde_json::from_str(&call.ended().await.result()).unwrap());
    }
    for [start, _] in &spans {
        let at_one_time = spans.iter().filter(|[from, until]| from <= start && start < until);
        assert!(at_one_time.count() <= 2, "{spans:?}");
    }
    // An idle interpreter is replaced by one with another environment.
    let mut assignment = worker.assignment("os:getpid", "null");
    Arc::make_mut(&mut assignment.work).working_dir = Some(Text::new("/"));
    assert!(worker.start(assignment).ended().await.report.outcome.is_ok());
    while n_of_worker(&worker.scratch()) > 2 {
        tokio::time::sleep(Duration::from_millis(10)).await; // poll
    }
}

#[tokio::test]
async fn an_interpreter_is_replaced_after_its_number_of_calls() {
    let settings = PythonSettings { calls_max: 3, ..PythonSettings::default() };
    let worker = Worker::with(settings, SOURCE);
    let mut pids = Vec::new();
    for _ in 0..6 {
        pids.push(worker.call("pid", "null").await.result());
    }
    assert!(pids[0] == pids[2] && pids[2] != pids[3] && pids[3] == pids[5], "{pids:?}");
}

#[tokio::test]
async fn an_interpreter_that_grows_is_replaced() {
    let settings = PythonSettings { memory_growth_bytes: 32 << 20, ..PythonSettings::default() };
    let worker = Worker::with(settings, SOURCE);
    let first = worker.call("pid", "null").await.result();
    let mut n_calls = 0;
    while worker.call("grow", "0").await.result() == first {
        n_calls += 1;
        assert!(n_calls < 20);
        // Memory is read only a few times per second.
        tokio::time::sleep(Duration::from_millis(100)).await; // poll
    }
    while is_alive(&first) {
        tokio::time::sleep(Duration::from_millis(10)).await; // poll
    }
}

#[tokio::test]
async fn an_idle_interpreter_is_ended() {
    let idle_limit = Duration::from_millis(100);
    let worker = Worker::with(PythonSettings { idle_limit, ..Default::default() }, SOURCE);
    assert!(worker.call("pid", "null").await.report.outcome.is_ok());
    while n_of_worker(&worker.scratch()) > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await; // poll
    }
}

#[tokio::test]
async fn interpreters_end_with_their_executor() {
    let worker = Worker::new(SOURCE);
    let pid = worker.call("pid", "null").await.result();
    assert!(is_alive(&pid));
    drop(worker);
    while is_alive(&pid) {
        tokio::time::sleep(Duration::from_millis(10)).await; // poll
    }
}

/// Runs itself again, as the worker to be killed.
#[tokio::test]
async fn interpreters_do_not_outlive_the_process_of_the_worker() {
    const ROLE: &str = "KAHN_TEST_DIES";
    if let Some(pid_file) = std::env::var_os(ROLE) {
        let worker = Worker::new(SOURCE);
        let mut running = worker.start(worker.assignment("spin", "0"));
        let log = running.printed("\n").await;
        std::fs::write(pid_file, log).unwrap();
        drop(running.ended().await);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let mut worker = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "reuse::interpreters_do_not_outlive_the_process_of_the_worker"])
        .env(ROLE, &pid_file)
        .env("TMPDIR", dir.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let log = loop {
        match std::fs::read_to_string(&pid_file) {
            Ok(log) if log.ends_with('\n') => break log,
            _ => tokio::time::sleep(Duration::from_millis(10)).await, // poll
        }
    };
    let pid = log.split_whitespace().nth(1).unwrap();
    assert!(is_alive(pid));
    worker.kill().unwrap();
    worker.wait().unwrap();
    // The call is busy and does not read its connection, so the kernel must kill it.
    while is_alive(pid) {
        tokio::time::sleep(Duration::from_millis(10)).await; // poll
    }
}
