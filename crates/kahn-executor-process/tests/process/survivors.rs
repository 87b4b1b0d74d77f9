//! All processes of an attempt are dead when it is reported.

use std::path::Path;
use std::time::Duration;

use crate::support::{Worker, exec, sh, survivors};
use kahn_executor_process::{LimitMode, LimitSettings};
use kahn_model::CauseKind;

/// Forks twice, creates sessions and closes the task's output.
const DAEMON: &str = "setsid sh -c 'setsid sleep 1000 </dev/null >/dev/null 2>&1 &' &\n";

#[tokio::test]
async fn background_processes_do_not_outlive_a_finished_task() {
    let worker = Worker::new();
    assert!(worker.run(sh("sleep 1000 & sleep 1000 &")).await.report.outcome.is_ok());
    assert_eq!(survivors(&worker), 0);
}

#[tokio::test]
async fn daemons_do_not_outlive_a_finished_task() {
    let worker = Worker::new();
    let script = format!("{DAEMON}{DAEMON}sleep 0.1; exit 3");
    assert_eq!(worker.run(sh(&script)).await.failure().cause.code, 3);
    assert_eq!(survivors(&worker), 0);
}

#[tokio::test]
async fn daemons_do_not_outlive_a_cancelled_task() {
    let worker = Worker::new();
    let script = format!("{DAEMON}sleep 0.1; echo up; trap '' TERM; sleep 1000");
    let mut assignment = worker.assignment(sh(&script));
    assignment.timeouts.grace = Some(Duration::from_millis(50));
    let ended = worker.stop_when_printed(assignment, "up", CauseKind::Cancelled).await;
    assert_eq!(ended.failure().cause.kind, CauseKind::Cancelled);
    assert_eq!(survivors(&worker), 0);
}

#[tokio::test]
async fn a_daemon_that_hides_its_environment_does_not_outlive_its_task() {
    let worker = Worker::new();
    let daemon = "setsid env -i /bin/sh -c '/usr/bin/setsid /bin/sleep 31.4159 & exit' \
                  </dev/null >/dev/null 2>&1 &\nsleep 0.2";
    assert!(worker.run(sh(daemon)).await.report.outcome.is_ok());
    // It may also be attributed to attempts of other tests, and is killed with the last of them.
    while crate::support::n_with_argument("31.4159") > 0 {
        assert!(worker.run(exec(&["true"])).await.report.outcome.is_ok());
    }
}

/// The environment of such a process can never be read, although it still runs.
#[tokio::test]
async fn a_daemon_whose_first_thread_has_exited_does_not_outlive_its_task() {
    let worker =
        Worker::with_limits(LimitSettings { mode: LimitMode::Off, ..LimitSettings::default() });
    let program = "import ctypes, threading, time; \
                   threading.Thread(target=time.sleep, args=(1000,)).start(); \
                   ctypes.CDLL(None).pthread_exit(None)";
    let script = format!(
        "setsid python3 -c '{program}' </dev/null >/dev/null 2>&1 & echo $!\n\
         until grep -q ') Z' /proc/$!/stat; do sleep 0.01; done"
    );
    let ended = worker.run(sh(&script)).await;
    assert!(ended.report.outcome.is_ok(), "{:?}", ended.report);
    let pid = ended.log.trim();
    // It may also be attributed to attempts of other tests, and is killed with the last of them.
    while Path::new("/proc").join(pid).exists() {
        assert!(worker.run(exec(&["true"])).await.report.outcome.is_ok());
    }
}

#[tokio::test]
async fn a_hidden_daemon_of_a_cancelled_task_is_dead_before_its_end_is_told_though_others_live() {
    let worker = Worker::new();
    let other = worker.assignment(sh("echo up; sleep 1000"));
    let mut other = worker.start(other);
    other.printed("up").await;
    for argument in ["41.4151", "41.4152"] {
        // One is the child of a daemon that can be attributed, the other of the first process.
        let hidden = format!("env -i /usr/bin/setsid /bin/sleep {argument}");
        let script = match argument {
            "41.4151" => format!("setsid -f sh -c '{hidden} & sleep 1000'; sleep 0.2; echo up"),
            _ => format!("{hidden} & sleep 0.2; echo up"),
        };
        let assignment = worker.assignment(sh(&format!("{script}; sleep 1000")));
        let ended = worker.stop_when_printed(assignment, "up", CauseKind::Cancelled).await;
        assert_eq!(ended.failure().cause.kind, CauseKind::Cancelled);
        assert_eq!(crate::support::n_with_argument(argument), 0, "{script}");
    }
    other.stop_after(Duration::ZERO).await;
}

#[tokio::test]
async fn a_hidden_daemon_of_a_task_that_is_over_at_once_is_dead_before_that_is_told() {
    let worker = Worker::new();
    let other = worker.assignment(sh("echo up; sleep 1000"));
    let mut other = worker.start(other);
    other.printed("up").await;
    for _ in 0..20 {
        let script =
            "env -i /usr/bin/setsid /bin/sleep 51.4151 </dev/null >/dev/null 2>&1 & exit 0";
        assert!(worker.run(sh(script)).await.report.outcome.is_ok());
        // Without groups it is killed with the last attempt that it may belong to.
        assert!(!worker.has_groups() || crate::support::n_with_argument("51.4151") == 0);
    }
    other.stop_after(Duration::ZERO).await;
    while crate::support::n_with_argument("51.4151") > 0 {
        assert!(worker.run(exec(&["true"])).await.report.outcome.is_ok());
    }
}

#[tokio::test]
async fn the_end_of_one_task_leaves_the_daemons_of_another_alone() {
    let worker = Worker::new();
    let script = format!("{DAEMON}sleep 0.1; echo up; read -r x < \"$KAHN_SCRATCH/gate\"; echo on");
    let script = format!("mkfifo \"$KAHN_SCRATCH/gate\"; echo \"$KAHN_SCRATCH\"; {script}");
    let worker = &worker;
    let assignment = worker.assignment(sh(&script));
    let mut with_daemon = worker.start(assignment);
    let text = with_daemon.printed("up").await;
    for _ in 0..10 {
        assert!(worker.run(sh("sleep 1000 & true")).await.report.outcome.is_ok());
    }
    let dir = text.lines().next().unwrap();
    // The waiting shell and the daemon.
    assert!(crate::support::n_with_scratch_dir(dir) >= 2);
    std::fs::write(format!("{dir}/gate"), "go\n").unwrap();
    assert!(with_daemon.ended().await.report.outcome.is_ok());
    assert_eq!(survivors(worker), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_cancellations_leave_no_survivors() {
    let worker = Worker::new();
    let mut random = fastrand::Rng::with_seed(7);
    let mut attempts = Vec::new();
    for n in 0..200 {
        let script = match n % 4 {
            0 => "sleep 1000".to_owned(),
            1 => format!("{DAEMON}sleep 1000"),
            2 => "trap '' TERM; sleep 1000 & sleep 1000".to_owned(),
            _ => "while :; do (sleep 1000 &) ; sleep 0.02; done".to_owned(),
        };
        let mut assignment = worker.assignment(sh(&script));
        assignment.timeouts.grace = Some(Duration::from_millis(random.u64(0..30)));
        let delay = Duration::from_millis(random.u64(0..150));
        attempts.push(worker.start(assignment).stop_after(delay));
        if attempts.len() == 20 {
            for attempt in attempts.drain(..) {
                assert_eq!(attempt.await.failure().cause.kind, CauseKind::Cancelled);
            }
        }
    }
    assert_eq!(survivors(&worker), 0);
    assert_eq!(worker.files_in_scratch(), 0);
}

#[tokio::test]
async fn processes_of_an_earlier_boot_are_killed_at_the_next_start() {
    let worker = Worker::new();
    let dir = worker.scratch().join("1");
    let mut left = std::process::Command::new("sh")
        .args(["-c", "echo up; exec sleep 1000"])
        .env("KAHN_SCRATCH", &dir)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Read::read_exact(left.stdout.as_mut().unwrap(), &mut [0; 3]).unwrap();
    let worker = worker.reopened();
    assert!(!left.wait().unwrap().success());
    assert_eq!(survivors(&worker), 0);
}
