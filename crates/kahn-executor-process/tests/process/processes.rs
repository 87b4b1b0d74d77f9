//! Real processes, from their start until the last one is dead.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Worker, exec, sh, survivors};
use kahn_model::{Action, Cause, CauseKind, Outputs, Shell, Text, Timeouts};

#[tokio::test]
async fn an_exit_code_is_the_cause_and_zero_is_success() {
    let worker = Worker::new();
    assert_eq!(worker.run(sh("exit 0")).await.report.outcome, Ok(Outputs::default()));
    assert_eq!(worker.run(sh("exit 7")).await.failure().cause, Cause::exit_code(7));
    // A script stops at its first failing command.
    assert_eq!(worker.run(sh("false\necho no")).await.failure().cause, Cause::exit_code(1));
    let bash = Action::Run { script: "false | true".into(), shell: Shell::Bash };
    assert_eq!(worker.run(bash).await.failure().cause, Cause::exit_code(1));
}

#[tokio::test]
async fn a_process_that_prints_much_at_once_does_not_wait_for_a_reader() {
    // A starter thread waits this long for the end of a process.
    const EXIT_TIMEOUT: Duration = Duration::from_millis(20);
    let worker = Worker::new();
    let mut fastest = Duration::MAX;
    // The machine may be busy with something else.
    for _ in 0..30 {
        let ended = worker.run(exec(&["head", "-c", "1000000", "/dev/zero"])).await;
        assert_eq!(ended.log.len(), 1_000_000);
        fastest = fastest.min(ended.report.usage.elapsed);
        if fastest < EXIT_TIMEOUT / 2 {
            return;
        }
    }
    panic!("it takes {fastest:?}, even alone");
}

#[tokio::test]
async fn a_signal_is_the_cause() {
    let worker = Worker::new();
    assert_eq!(worker.run(sh("kill -SEGV $$")).await.failure().cause, Cause::signal(11));
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_named() {
    let worker = Worker::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plain");
    std::fs::write(&file, "text").unwrap();
    let file = file.to_str().unwrap();
    for (program, words) in [
        ("no-such-program", "not found in PATH"),
        ("/no/such/program", "not found"),
        (file, "not executable"),
        ("/tmp", "not executable"),
        ("", "no program"),
    ] {
        let failure = worker.run(exec(&[program])).await.failure();
        assert_eq!(failure.cause.kind, CauseKind::Image, "{failure}");
        assert!(failure.message.contains(program) && failure.message.contains(words), "{failure}");
    }
}

#[tokio::test]
async fn a_script_without_its_interpreter_is_told_from_a_missing_one() {
    let worker = Worker::new();
    let dir = tempfile::tempdir().unwrap();
    let script = crate::support::script(dir.path(), "#!/no/such/interpreter\n");
    let failure = worker.run(exec(&[&script])).await.failure();
    assert!(failure.message.contains("interpreter"), "{failure}");
}

#[tokio::test]
async fn a_missing_working_directory_is_named() {
    let worker = Worker::new();
    let mut assignment = worker.assignment(exec(&["true"]));
    Arc::make_mut(&mut assignment.work).working_dir = Some(Text::new("/no/such/place"));
    let failure = worker.carry_out(assignment).await.failure();
    assert_eq!(failure.cause.kind, CauseKind::Image);
    assert!(failure.message.contains("working directory /no/such/place"), "{failure}");
}

#[tokio::test]
async fn a_task_starts_in_an_empty_private_directory_that_is_gone_afterwards() {
    let worker = Worker::new();
    let ended =
        worker.run(sh("pwd; stat -c %a .; ls -A | wc -l; mkdir -p a/b; chmod 0 a; >f")).await;
    let lines: Vec<&str> = ended.log.lines().collect();
    assert_eq!(lines[1..], ["700", "0"]);
    assert!(lines[0].starts_with(worker.scratch().to_str().unwrap()), "{}", ended.log);
    assert!(!std::path::Path::new(lines[0]).exists());
    assert_eq!(worker.files_in_scratch(), 0);
}

#[tokio::test]
async fn a_working_directory_is_used_and_kept() {
    let worker = Worker::new();
    let dir = tempfile::tempdir().unwrap();
    let mut assignment = worker.assignment(sh("echo x > file; test -d \"$KAHN_SCRATCH\""));
    Arc::make_mut(&mut assignment.work).working_dir = Some(Text::new(dir.path().to_str().unwrap()));
    assert!(worker.carry_out(assignment).await.report.outcome.is_ok());
    assert!(dir.path().join("file").exists());
}

#[tokio::test]
async fn the_run_timeout_ends_the_attempt() {
    let worker = Worker::new();
    let mut assignment = worker.assignment(sh("echo before; sleep 100"));
    let run = Some(Duration::from_millis(200));
    assignment.timeouts = Timeouts { run, ..Timeouts::default() };
    let ended = worker.carry_out(assignment).await;
    let failure = ended.failure();
    assert_eq!(failure.cause, Cause::of(CauseKind::RunTimeout));
    assert!(failure.message.contains("200ms"), "{failure}");
    assert_eq!(ended.log, "before\n");
    assert!(ended.report.usage.elapsed < Duration::from_secs(50));
}

#[tokio::test]
async fn a_task_may_end_itself_within_the_grace() {
    let worker = Worker::new();
    let script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done";
    let ended = worker.stop_when_printed(worker.assignment(sh(script)), "up", CauseKind::Preempted);
    let ended = ended.await;
    assert_eq!(ended.failure().cause, Cause::of(CauseKind::Preempted));
    // In between, the shell may report that its `sleep` was terminated.
    assert!(ended.log.starts_with("up\n") && ended.log.ends_with("bye\n"), "{}", ended.log);
}

#[tokio::test]
async fn a_task_that_ignores_the_request_is_killed_after_the_grace() {
    let worker = Worker::new();
    let mut assignment = worker.assignment(sh("trap '' TERM; echo up; sleep 100"));
    assignment.timeouts.grace = Some(Duration::from_millis(300));
    let ended = worker.stop_when_printed(assignment, "up", CauseKind::Cancelled).await;
    let failure = ended.failure();
    assert_eq!(failure.cause, Cause::of(CauseKind::Cancelled));
    assert!(failure.message.contains("killed"), "{failure}");
    let elapsed = ended.report.usage.elapsed;
    assert!(Duration::from_millis(300) < elapsed && elapsed < Duration::from_secs(50));
    assert_eq!(survivors(&worker), 0);
}

#[tokio::test]
async fn a_stopped_process_hears_the_request() {
    let worker = Worker::new();
    let ended = worker.stop_when_printed(
        worker.assignment(sh("echo up; kill -STOP $$; sleep 100")),
        "up",
        CauseKind::Cancelled,
    );
    assert_eq!(&*ended.await.failure().message, "");
}

#[tokio::test]
async fn a_stop_before_the_start_starts_nothing() {
    let worker = Worker::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = format!("echo x > {}", file.path().display());
    let ended = worker.stop_at_once(worker.assignment(sh(&script))).await;
    assert_eq!(ended.failure().cause, Cause::of(CauseKind::Cancelled));
    assert!(!ended.was_started && std::fs::read(file.path()).unwrap().is_empty());
}

#[tokio::test]
async fn an_attempt_that_nobody_waits_for_is_killed() {
    let worker = Worker::new();
    worker
        .abandon_when_printed(worker.assignment(sh("trap '' TERM; echo up; sleep 100")), "up")
        .await;
    // Killing continues in the background, and returns the scratch directory at its end.
    while survivors(&worker) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn outputs_are_read_and_bad_ones_name_their_line() {
    let worker = Worker::new();
    let script = "echo 'rows:=42' >> \"$KAHN_OUTPUT\"; echo 'who=a b' >> \"$KAHN_OUTPUT\"";
    let given = worker.run(sh(script)).await.outputs();
    assert_eq!(given, ["rows=42", "who=\"a b\""]);

    let bad = worker.run(sh("printf 'a=1\\nnonsense\\n' > \"$KAHN_OUTPUT\"")).await.failure();
    assert_eq!(bad.cause, Cause::exit_code(0));
    assert!(bad.message.contains("line 2") && bad.message.contains("nonsense"), "{bad}");

    let long = worker.run(sh("yes a=1 | head -c 1000000 > \"$KAHN_OUTPUT\"")).await.failure();
    assert!(long.message.contains("65536"), "{long}");
    assert_eq!(worker.files_in_scratch(), 0);
    // Outputs of a failed task are neither read nor left for the next task.
    assert_eq!(worker.run(sh("echo a=1 > $KAHN_OUTPUT; exit 3")).await.failure().cause.code, 3);
    assert!(worker.run(sh("true")).await.outputs().is_empty());
}

#[tokio::test]
async fn usage_is_plausible() {
    let worker = Worker::new();
    // Memory may have to be sampled, at least once a second. It is held long enough for a sample.
    let script = "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo ${#x}; sleep 2";
    let usage = worker.run(sh(script)).await.report.usage;
    assert!(Duration::from_secs(2) < usage.elapsed, "{usage:?}");
    assert!(Duration::from_millis(1) < usage.cpu && usage.cpu < 4 * usage.elapsed, "{usage:?}");
    assert!((50 << 20) < usage.memory_peak && usage.memory_peak < (2 << 30), "{usage:?}");
}

#[tokio::test]
async fn a_small_task_of_a_large_worker_is_not_charged_for_the_worker() {
    let ballast = std::hint::black_box(vec![1u8; 200 << 20]);
    let worker = Worker::new();
    // The second one ends before its first sample.
    for script in ["sleep 0.2", "exit 0"] {
        let usage = worker.run(sh(script)).await.report.usage;
        assert!(usage.memory_peak < (50 << 20), "{script}: {usage:?}");
    }
    assert_eq!(ballast[ballast.len() - 1], 1);
}
