//! The environment, arguments, output and I/O of tasks.

use std::sync::Arc;

use crate::support::{CANARY, Worker, exec, sh};
use kahn_model::{CauseKind, Text};

#[tokio::test]
async fn secrets_of_the_worker_are_not_in_the_environment_of_a_task() {
    let worker = Worker::new();
    let mut assignment = worker.assignment(sh("env; tr '\\0' '\\n' < /proc/self/environ"));
    Arc::make_mut(&mut assignment.work).env.push(("COLOUR".into(), Text::new("blue $(id)")));
    let log = worker.carry_out(assignment).await.log;
    assert!(!log.contains(CANARY), "{log}");
    let names: std::collections::BTreeSet<&str> =
        log.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    for name in ["PATH", "COLOUR", "KAHN_RUN_ID", "KAHN_TASK", "KAHN_ATTEMPT", "KAHN_TASK_KEY"] {
        assert!(names.contains(name), "{name}: {log}");
    }
    assert!(log.contains("COLOUR=blue $(id)\n"));
    assert!(!names.iter().any(|name| name.starts_with("CARGO")), "{log}");
}

#[tokio::test]
async fn a_task_may_set_its_path_but_not_who_it_is() {
    let worker = Worker::new();
    let dir = tempfile::tempdir().unwrap();
    let program =
        crate::support::script(dir.path(), "#!/bin/sh\necho \"$0 $KAHN_ATTEMPT $PATH\"\n");
    let name = program.rsplit_once('/').unwrap().1;
    let mut assignment = worker.assignment(exec(&[name]));
    let path = dir.path().to_str().unwrap();
    Arc::make_mut(&mut assignment.work).env.push(("PATH".into(), Text::new(path)));
    Arc::make_mut(&mut assignment.work).env.push(("KAHN_ATTEMPT".into(), Text::new("99")));
    let number = assignment.attempt.number;
    let log = worker.carry_out(assignment).await.log;
    assert_eq!(log, format!("{program} {number} {path}\n"));
}

#[tokio::test]
async fn arguments_are_literal() {
    let worker = Worker::new();
    let arguments = ["$(id)", "; rm -rf /", "a\nb", "--flag", "é 日本 🛶", "`x`", "", "*", "\\n"];
    let mut argv = vec!["printf", "%s|"];
    argv.extend(arguments);
    let log = worker.run(exec(&argv)).await.log;
    assert_eq!(log, arguments.map(|argument| format!("{argument}|")).concat());
}

#[tokio::test]
async fn a_nul_character_is_refused_by_its_place() {
    let worker = Worker::new();
    let refused = worker.run(exec(&["echo", "a\0b"])).await.failure();
    assert_eq!(refused.cause.kind, CauseKind::Image);
    assert!(refused.message.contains("argument 1"), "{refused}");
    let mut assignment = worker.assignment(exec(&["true"]));
    Arc::make_mut(&mut assignment.work).env.push(("A=B".into(), Text::new("x")));
    let refused = worker.carry_out(assignment).await.failure();
    assert!(refused.message.contains("A=B"), "{refused}");
}

#[tokio::test]
async fn a_hundred_thousand_lines_arrive_in_order() {
    let worker = Worker::new();
    let ended = worker.run(sh("seq 1 100000; echo end >&2")).await;
    let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(ended.log, expected + "end\n");
}

#[tokio::test]
async fn both_streams_keep_their_order_and_may_be_opened_by_name() {
    let worker = Worker::new();
    let script = "echo 1; echo 2 >&2; echo 3 > /dev/stdout; echo 4 > /dev/stderr; printf 5";
    assert_eq!(worker.run(sh(script)).await.log, "1\n2\n3\n4\n5");
}

#[tokio::test]
async fn a_log_over_the_cap_is_cut_and_the_task_goes_on() {
    let worker = Worker::with_log_cap(100_000);
    let ended = worker.run(sh("yes | head -c 5000000; exit 4")).await;
    assert_eq!(ended.failure().cause.code, 4);
    let (kept, note) = ended.log.split_at(100_000);
    assert!(kept.bytes().eq(b"y\n".iter().copied().cycle().take(100_000)));
    assert_eq!(note, "[kahn] log cut after 100000 bytes, 4900000 bytes dropped\n");
}

#[tokio::test]
async fn what_a_killed_task_printed_is_kept() {
    let worker = Worker::new();
    let ended = worker.run(sh("head -c 60000 /dev/zero | tr '\\0' x; kill -KILL $$")).await;
    assert_eq!(ended.failure().cause.code, 9);
    assert_eq!(ended.log.len(), 60_000);
}

#[tokio::test]
async fn a_silent_task_makes_no_log_file() {
    let worker = Worker::new();
    assert!(worker.run(exec(&["true"])).await.report.outcome.is_ok());
    assert!(worker.logs().attempts().unwrap().is_empty());
}
