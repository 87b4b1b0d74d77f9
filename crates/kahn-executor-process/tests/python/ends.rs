//! Crashes, cancellation, and leftovers.

use std::time::Duration;

use kahn_model::{Cause, CauseKind};

use kahn_executor::Assignment;

use crate::support::{Worker, is_alive, n_of_worker};

const SOURCE: &str = r#"
import ctypes, os, signal, subprocess, sys, threading, time

def pid(x=None): return str(os.getpid())
def segfault(): print("before", end=""); ctypes.string_at(0)
def exit_hard(x): os._exit(x)
def kill_myself(): os.kill(os.getpid(), signal.SIGKILL)
def disconnect(): os.closerange(3, 256)
def fork():
    if os.fork() == 0:
        raise ValueError("child")
    time.sleep(0.1)
    return "parent"

def wait(x):
    try:
        print("up", os.getpid())
        time.sleep(1000)
    finally:
        print("bye")

def stubborn(x):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    print("up", child.pid)
    while True: pass

def child(x):
    return str(subprocess.Popen(["sleep", "1000"]).pid)

def daemon(x):
    sh = "setsid sh -c 'sleep 1000 & echo $!' </dev/null"
    return subprocess.run(sh, shell=True, stdout=open("out", "w")) and open("out").read().strip()

def grow(x):
    time.sleep(0.1)
    a = bytearray(80 << 20)
    # For longer than the pause between two looks at it.
    time.sleep(0.6)
    sum(range(3_000_000))
"#;

#[tokio::test]
async fn a_crash_costs_one_attempt() {
    let worker = Worker::new(SOURCE);
    for (function, input, cause) in [
        ("segfault", "null", Cause::signal(11)),
        ("exit_hard", "7", Cause::exit_code(7)),
        ("exit_hard", "0", Cause::exit_code(0)),
        ("kill_myself", "null", Cause::signal(9)),
    ] {
        let before = worker.call("pid", "null").await.result();
        let ended = worker.call(function, input).await;
        assert_eq!(ended.failure().cause, cause, "{}", ended.failure());
        assert!(ended.failure().message.contains("interpreter"));
        assert_eq!(ended.log, if function == "segfault" { "before" } else { "" });
        let after = worker.call("pid", "null").await.result();
        assert_ne!(before, after);
        assert!(!is_alive(before.trim_matches('"')));
    }
}

#[tokio::test]
async fn a_call_that_breaks_its_connection_costs_one_attempt() {
    let worker = Worker::new(SOURCE);
    assert!(worker.call("disconnect", "null").await.report.outcome.is_err());
    assert_eq!(worker.call("fork", "null").await.result(), "\"parent\"");
    assert_eq!(worker.call("fork", "null").await.result(), "\"parent\"");
}

#[tokio::test]
async fn an_interpreter_that_died_while_it_waited_costs_nothing() {
    let worker = Worker::new(SOURCE);
    let pid = worker.call("pid", "null").await.result();
    let pid = pid.trim_matches('"');
    assert!(std::process::Command::new("kill").args(["-9", pid]).status().unwrap().success());
    while is_alive(pid) {
        tokio::task::yield_now().await;
    }
    assert_ne!(worker.call("pid", "null").await.result().trim_matches('"'), pid);
}

#[tokio::test]
async fn a_call_that_is_cancelled_may_clean_up() {
    let worker = Worker::new(SOURCE);
    let assignment = worker.assignment("wait", "0");
    let ended = worker.stop_when_printed(assignment, "\n", CauseKind::Cancelled).await;
    assert_eq!(ended.failure(), kahn_model::Failure::of(CauseKind::Cancelled));
    assert!(ended.log.ends_with("bye\n"), "{}", ended.log);
    let pid = ended.log.split_whitespace().nth(1).unwrap();
    assert!(!is_alive(pid));
    assert_ne!(worker.call("pid", "null").await.result(), format!("\"{pid}\""));
}

#[tokio::test]
async fn a_call_that_does_not_heed_is_killed_after_the_grace_with_all_it_started() {
    let worker = Worker::new(SOURCE);
    let mut assignment = worker.assignment("stubborn", "0");
    assignment.timeouts.grace = Some(Duration::from_millis(200));
    let ended = worker.stop_when_printed(assignment, "\n", CauseKind::Preempted).await;
    assert_eq!(ended.failure().cause.kind, CauseKind::Preempted);
    assert!(ended.failure().message.contains("killed"));
    let elapsed = ended.report.usage.elapsed;
    assert!(Duration::from_millis(200) < elapsed && elapsed < Duration::from_secs(50));
    assert!(!is_alive(ended.log.split_whitespace().nth(1).unwrap()), "{}", ended.log);
    assert_eq!(n_of_worker(&worker.scratch()), 0);
}

#[tokio::test]
async fn the_run_timeout_ends_a_call() {
    let worker = Worker::new(SOURCE);
    let mut assignment = worker.assignment("wait", "0");
    assignment.timeouts.run = Some(Duration::from_millis(300));
    let ended = worker.start(assignment).ended().await;
    assert_eq!(ended.failure().cause.kind, CauseKind::RunTimeout);
    assert!(ended.failure().message.contains("300ms") && ended.log.starts_with("up"));
    assert_eq!(n_of_worker(&worker.scratch()), 0);
}

#[tokio::test]
async fn a_stop_before_the_start_starts_nothing() {
    let worker = Worker::new(SOURCE);
    let running = worker.start(worker.assignment("wait", "0"));
    running.stopper.stop(CauseKind::Cancelled);
    assert_eq!(running.ended().await.failure().cause.kind, CauseKind::Cancelled);
    // Undoing the cancelled start may take a moment.
    while n_of_worker(&worker.scratch()) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_killed() {
    let worker = Worker::new(SOURCE);
    let mut running = worker.start(worker.assignment("wait", "0"));
    running.printed("up").await;
    running.reporting.abort();
    while n_of_worker(&worker.scratch()) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn processes_do_not_outlive_the_call_that_started_them() {
    let worker = Worker::new(SOURCE);
    for function in ["child", "daemon"] {
        let before = worker.call("pid", "null").await.result();
        let pid = worker.call(function, "0").await.result();
        assert!(!is_alive(pid.trim_matches('"')), "{function} {pid}");
        assert_ne!(worker.call("pid", "null").await.result(), before);
    }
}

#[tokio::test]
async fn usage_is_that_of_the_call() {
    let worker = Worker::new(SOURCE);
    let usage = worker.call("grow", "0").await.report.usage;
    assert!(Duration::from_millis(600) < usage.elapsed, "{usage:?}");
    assert!(Duration::from_millis(5) < usage.cpu && usage.cpu < 2 * usage.elapsed, "{usage:?}");
    assert!((80 << 20) < usage.memory_peak && usage.memory_peak < (1 << 30), "{usage:?}");
    // The same interpreter. On a busy host, one undisturbed call of some is enough.
    let mut least = Duration::MAX;
    for _ in 0..10 {
        least = least.min(worker.call("pid", "null").await.report.usage.cpu);
    }
    assert!(least < Duration::from_millis(5), "{least:?}");
}

#[tokio::test]
async fn a_call_beyond_its_memory_ends_alone_and_succeeds_with_more() {
    let worker = Worker::new(SOURCE);
    let grow = |memory: &str| {
        let resources = std::sync::Arc::new(memory.parse().unwrap());
        worker.start(Assignment { resources, ..worker.assignment("grow", "0") }).ended()
    };
    assert!(grow("memory=256Mi").await.report.outcome.is_ok());
    if !worker.has_memory_groups() {
        // Without groups, memory limits are not enforced for interpreters.
        assert!(grow("memory=48Mi").await.report.outcome.is_ok());
        return;
    }
    for _ in 0..2 {
        let other = worker.start(worker.assignment("grow", "0"));
        let failure = grow("memory=48Mi").await.report.outcome.unwrap_err();
        assert_eq!(failure.cause.kind, CauseKind::OutOfMemory, "{failure}");
        assert_eq!(&*failure.message, "killed at 48Mi");
        assert!(other.ended().await.report.outcome.is_ok());
        assert!(grow("memory=256Mi").await.report.outcome.is_ok());
    }
    let failure = grow("memory=1Mi").await.report.outcome.unwrap_err();
    assert_eq!(failure.cause.kind, CauseKind::OutOfMemory, "{failure}");
    assert!(worker.call("pid", "null").await.report.outcome.is_ok());
}
