//! Attempts, from their start until nothing of them is left.

use std::sync::Arc;
use std::time::Duration;

use kahn_model::{Cause, CauseKind, Resource, Resources, Text, Timeouts};

use crate::support::{Worker, fails_with, prog};

#[tokio::test]
async fn what_a_container_prints_is_logged_and_what_it_gives_is_taken() {
    let Some(worker) = Worker::new().await else { return };
    let said = worker.run(prog(&["say", "hello", "world"])).await;
    assert!(said.outputs().is_empty());
    let mut lines: Vec<_> = said.log.lines().collect();
    // The two streams are not ordered relative to each other.
    lines.sort_unstable();
    assert_eq!(lines, ["hello", "to stderr", "world"]);
    assert!(said.was_started && said.report.usage.elapsed > Duration::ZERO);

    let given = worker.run(prog(&["output", "rows:=42", "who=a b"])).await.outputs();
    assert_eq!(given, ["rows=42", "who=\"a b\""]);
    assert_eq!((worker.n_left().await, worker.n_directories()), (0, 0));
}

#[tokio::test]
async fn much_output_arrives_whole() {
    let Some(worker) = Worker::new().await else { return };
    let ended = worker.run(prog(&["flood", "20000"])).await;
    let expected: Vec<_> = (0..20_000).map(|n| format!("line {n}")).collect();
    assert!(ended.log.lines().eq(expected), "{} bytes", ended.log.len());
}

#[tokio::test]
async fn bad_outputs_are_refused_by_name_of_what_is_wrong() {
    let Some(worker) = Worker::new().await else { return };
    let bad = worker.run(prog(&["output", "a=1", "nonsense"])).await.failure();
    assert_eq!(bad.cause, Cause::exit_code(0));
    assert!(bad.message.contains("line 2") && bad.message.contains("nonsense"), "{bad}");
    let long = worker.run(prog(&["flood-output"])).await.failure();
    assert!(long.message.contains("65536"), "{long}");
}

#[tokio::test]
async fn an_exit_code_is_the_cause() {
    let Some(worker) = Worker::new().await else { return };
    assert_eq!(worker.run(prog(&["exit", "7"])).await.failure().cause, Cause::exit_code(7));
    assert_eq!(worker.run(prog(&["die", "11"])).await.failure().cause, Cause::exit_code(128 + 11));
    assert_eq!(worker.n_left().await, 0);
}

#[tokio::test]
async fn variables_and_directory_are_the_tasks_and_kahns_own_win() {
    let Some(worker) = Worker::new().await else { return };
    let names = ["env", "A", "KAHN_TASK", "KAHN_ATTEMPT", "KAHN_OUTPUT", "HOST_SECRET"];
    let mut assignment = worker.assignment(prog(&names));
    let variable = |name: &str, value: &str| (name.into(), Text::new(value));
    Arc::make_mut(&mut assignment.work).env =
        vec![variable("A", "1"), variable("A", "x=y z"), variable("KAHN_TASK", "mine")];
    let ended = worker.carry_out(assignment).await;
    let expected =
        "A=x=y z\nKAHN_TASK=task\nKAHN_ATTEMPT=1\nKAHN_OUTPUT=/kahn/output\nHOST_SECRET=(none)\n";
    assert_eq!(ended.log, expected);

    let mut assignment = worker.assignment(prog(&["look"]));
    Arc::make_mut(&mut assignment.work).working_dir = Some(Text::new("/tmp"));
    assert!(worker.carry_out(assignment).await.log.contains("cwd=/tmp\n"));
}

#[tokio::test]
async fn a_cancelled_container_is_confirmed_dead() {
    let Some(worker) = Worker::new().await else { return };
    let assignment = worker.assignment(prog(&["stay-politely"]));
    let ended = worker.stop_when_up(assignment, CauseKind::Cancelled).await;
    fails_with(&ended, CauseKind::Cancelled, &[]);
    assert_eq!(ended.failure().message.as_ref(), "");
    assert_eq!(ended.log, "up\nbye\n");
    assert_eq!((worker.n_left().await, worker.n_directories()), (0, 0));
}

#[tokio::test]
async fn a_container_that_ignores_the_request_is_killed_after_the_grace() {
    let Some(worker) = Worker::new().await else { return };
    let mut assignment = worker.assignment(prog(&["stay-stubbornly"]));
    assignment.timeouts.grace = Some(Duration::from_millis(300));
    let ended = worker.stop_when_up(assignment, CauseKind::Preempted).await;
    fails_with(&ended, CauseKind::Preempted, &["killed"]);
    let elapsed = ended.report.usage.elapsed;
    assert!(Duration::from_millis(300) < elapsed && elapsed < Duration::from_secs(25));
    assert_eq!(worker.n_left().await, 0);
}

#[tokio::test]
async fn the_run_timeout_ends_the_attempt() {
    let Some(worker) = Worker::new().await else { return };
    let mut assignment = worker.assignment(prog(&["stay"]));
    let run = Some(Duration::from_millis(500));
    assignment.timeouts = Timeouts { run, ..Timeouts::default() };
    let ended = worker.carry_out(assignment).await;
    fails_with(&ended, CauseKind::RunTimeout, &["500ms"]);
    assert_eq!((&*ended.log, worker.n_left().await), ("up\n", 0));
}

#[tokio::test]
async fn a_stop_before_the_start_starts_nothing() {
    let Some(worker) = Worker::new().await else { return };
    let running = worker.start(worker.assignment(prog(&["stay"])));
    running.stopper.stop(CauseKind::Cancelled);
    let ended = running.ended().await;
    fails_with(&ended, CauseKind::Cancelled, &[]);
    assert_eq!((ended.was_started, worker.n_left().await), (false, 0));
}

#[tokio::test]
async fn an_attempt_that_nobody_waits_for_is_killed() {
    let Some(worker) = Worker::new().await else { return };
    let assignment = worker.assignment(prog(&["stay-stubbornly"]));
    let mut running = worker.start(assignment);
    running.printed("up\n").await;
    running.reporting.abort();
    while worker.n_left().await > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await; // poll
    }
}

#[tokio::test]
async fn more_memory_than_asked_for_is_the_cause() {
    let Some(worker) = Worker::new().await else { return };
    let with_memory = |args: &[&str]| {
        let mut assignment = worker.assignment(prog(args));
        assignment.resources = Resources::none().with(&Resource::Memory, 32 << 20).into();
        assignment
    };
    let killed = worker.carry_out(with_memory(&["die", "9"])).await;
    assert_eq!(killed.failure().cause, Cause::exit_code(137));
    let ended = worker.carry_out(with_memory(&["eat", "256", "1"])).await;
    fails_with(&ended, CauseKind::OutOfMemory, &["33554432 bytes"]);
    assert!(!ended.log.contains("ate"), "{}", ended.log);
}

#[tokio::test]
async fn usage_is_plausible() {
    let Some(worker) = Worker::new().await else { return };
    let usage = worker.run(prog(&["eat", "64", "4"])).await.report.usage;
    assert!(Duration::from_secs(4) <= usage.elapsed, "{usage:?}");
    assert!(Duration::ZERO < usage.cpu && usage.cpu < 4 * usage.elapsed, "{usage:?}");
    assert!((60 << 20) < usage.memory_peak && usage.memory_peak < (256 << 20), "{usage:?}");
}
