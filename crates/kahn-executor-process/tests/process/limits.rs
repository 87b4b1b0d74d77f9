//! Resource limits are enforced, and an attempt that exceeds them does not affect others.
//!
//! Needs control groups that this process may write: root, or a delegated group. Without them, each
//! test checks the behavior without groups; see `Worker::has_groups`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kahn_executor_process::{CpuLimit, LimitMode, LimitSettings};
use kahn_model::{Action, CauseKind, Shell, Usage};

use crate::support::{Worker, exec, n_with_argument, sh, survivors};
use kahn_executor::testing::Ended;

/// Uses 100 MB of memory and frees it.
const HOG: &str = "head -c 100M /dev/zero | tail | wc -c";

fn bash(script: &str) -> Action {
    Action::Run { script: script.into(), shell: Shell::Bash }
}

/// Asserts that an attempt failed because its processes used too much memory.
fn assert_out_of_memory(worker: &Worker, ended: &Ended) {
    let failure = ended.failure();
    if worker.has_memory_groups() {
        assert_eq!(failure.cause.kind, CauseKind::OutOfMemory, "{failure}");
        assert_eq!(&*failure.message, "killed at 64Mi");
        assert!(ended.report.usage.memory_peak >= 64 << 20);
    } else {
        // The allocation failed and the program reported that itself.
        assert_eq!(failure.cause.kind, CauseKind::ExitCode, "{failure}");
    }
}

#[tokio::test]
async fn an_attempt_beyond_its_memory_is_killed_alone_and_succeeds_with_more() {
    let worker = Worker::new();
    let script = "echo up; read -r line < \"$KAHN_SCRATCH/gate\"; echo \"$line\"";
    let script = format!("mkfifo \"$KAHN_SCRATCH/gate\"; echo \"$KAHN_SCRATCH\"; {script}");
    let neighbour = worker.asking("cpu=1,memory=64Mi", sh(&script));
    let mut neighbour = worker.start(neighbour);
    let text = neighbour.printed("up").await;
    for _ in 0..3 {
        // The waiting shell is not killed and turns the signal into an exit code.
        let script = format!("set -o pipefail; {HOG}");
        let ended = worker.carry_out(worker.asking("memory=64Mi", bash(&script))).await;
        assert_out_of_memory(&worker, &ended);
        // Here the first process itself is killed.
        let ended = worker.carry_out(worker.asking("memory=64Mi", exec(&["tail", "/dev/zero"])));
        assert_out_of_memory(&worker, &ended.await);
        let ended = worker.carry_out(worker.asking("memory=256Mi", bash(&script))).await;
        assert_eq!((ended.report.outcome.is_ok(), &*ended.log), (true, "104857600\n"));
    }
    let dir = text.lines().next().unwrap();
    std::fs::write(format!("{dir}/gate"), "nothing happened\n").unwrap();
    let ended = neighbour.ended().await;
    assert!(ended.report.outcome.is_ok() && ended.log.ends_with("nothing happened\n"));
    assert_eq!(survivors(&worker), 0);
}

#[tokio::test]
async fn an_attempt_that_lives_without_the_process_that_was_killed_succeeds() {
    let worker = Worker::new();
    let script = format!("if {{ {HOG}; }} 2>&1; then true; fi; echo on");
    let ended = worker.carry_out(worker.asking("memory=64Mi", sh(&script))).await;
    assert!(ended.report.outcome.is_ok() && ended.log.ends_with("on\n"), "{}", ended.log);
    // The kill is not attributed to the next attempt in the same group.
    let ended = worker.carry_out(worker.asking("memory=64Mi", sh("exit 3"))).await;
    assert_eq!(ended.failure().cause.code, 3);
}

#[tokio::test]
async fn too_little_memory_to_start_a_program_harms_the_attempt_alone() {
    let worker = Worker::new();
    for memory in ["memory=1", "memory=4Ki", "memory=64Ki", "memory=256Ki"] {
        for _ in 0..5 {
            let ended = worker.carry_out(worker.asking(memory, sh("sleep 1000"))).await;
            let kind = ended.failure().cause.kind;
            assert!(
                kind == CauseKind::OutOfMemory || !worker.has_memory_groups(),
                "{kind} at {memory}"
            );
        }
    }
    assert!(
        worker
            .carry_out(worker.asking("memory=64Mi", exec(&["true"])))
            .await
            .report
            .outcome
            .is_ok()
    );
}

#[tokio::test]
async fn a_fork_bomb_is_contained_and_dies_within_seconds_of_its_cancellation() {
    // Without groups, and as root, nothing would contain a fork bomb, so it is not run.
    let worker = Worker::with_limits(LimitSettings { pids: Some(300), ..LimitSettings::default() });
    if !worker.has_groups() {
        assert!(worker.run(sh("ulimit -a")).await.report.outcome.is_ok());
        return;
    }
    let mut bomb = worker.assignment(bash(":(){ :|:& };:\necho \"$KAHN_SCRATCH\" up; sleep 1000"));
    bomb.timeouts.grace = Some(Duration::from_millis(100));
    let mut bomb = worker.start(bomb);
    let dir = bomb.printed("up").await.split(" up").next().unwrap().to_owned();
    // The bomb has stopped growing.
    while crate::support::n_with_scratch_dir(dir.lines().last().unwrap()) < 100 {
        tokio::time::sleep(Duration::from_millis(10)).await; // poll
    }
    for _ in 0..5 {
        assert!(worker.run(sh("(exit 0) | cat")).await.report.outcome.is_ok());
    }
    let ending = bomb.stop_after(Duration::ZERO);
    let ended = tokio::time::timeout(Duration::from_secs(10), ending).await.expect("it dies soon");
    assert_eq!(ended.failure().cause.kind, CauseKind::Cancelled);
    assert_eq!(survivors(&worker), 0);
}

#[tokio::test]
async fn a_daemon_that_hides_everything_dies_while_other_attempts_run() {
    let worker = Worker::new();
    let mut neighbour = worker.assignment(sh("echo up; exec sleep 1000"));
    neighbour.timeouts.grace = Some(Duration::ZERO);
    let mut neighbour = worker.start(neighbour);
    neighbour.printed("up").await;
    let daemon = "setsid env -i /bin/sh -c '/usr/bin/setsid /bin/sleep 27.1828 & exit' \
                  </dev/null >/dev/null 2>&1 &\nsleep 0.2";
    assert!(worker.run(sh(daemon)).await.report.outcome.is_ok());
    // Without groups, the daemon cannot be told from an orphan of the other attempt.
    let n_expected = usize::from(!worker.has_groups());
    assert_eq!(n_with_argument("27.1828"), n_expected);
    neighbour.stop_after(Duration::ZERO).await;
    while n_with_argument("27.1828") > 0 {
        assert!(worker.run(exec(&["true"])).await.report.outcome.is_ok());
    }
}

/// Ends when it and its child have been moved to their CPU share.
const WAIT_FOR_SHARE: &str = r#"
sleep 1000 & child=$!
has_share() { grep -E ':([a-z,]*,)?cpu(,[a-z]*)*:|^0::' "/proc/$1/cgroup" | grep -q kahn-test; }
n=0; until has_share $$ && has_share $child; do n=$((n + 1)); [ $n -lt 1000 ] || exit 1; sleep 0.01; done # poll
cat /proc/self/cgroup; echo up; exec sleep 1000
"#;

/// Returns the content of the first of these files that exists in an attempt's group.
async fn in_its_group(worker: &Worker, resources: &str, files: [&str; 2]) -> String {
    let mut assignment = worker.asking(resources, sh(WAIT_FOR_SHARE));
    assignment.timeouts.grace = Some(Duration::ZERO);
    let mut running = worker.start(assignment);
    let groups = running.printed("up").await;
    let dirs: Vec<PathBuf> = groups.lines().flat_map(group_dirs).collect();
    let found = files.iter().zip(["cgroup", "cgroup2"]).find_map(|(file, _)| {
        dirs.iter().find_map(|dir| std::fs::read_to_string(dir.join(file)).ok())
    });
    running.stop_after(Duration::ZERO).await;
    found.expect("the attempt is in a group with this file").trim().to_owned()
}

/// The possible mount points for a line of `/proc/self/cgroup`.
fn group_dirs(line: &str) -> Vec<PathBuf> {
    let Some(path) = line.splitn(3, ':').nth(2).filter(|path| path.contains("kahn-test")) else {
        return Vec::new();
    };
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter(|mount| mount.contains("cgroup"));
    points
        .filter_map(|mount| mount.split(' ').nth(1))
        .map(|point| Path::new(point).join(path.trim_start_matches('/')))
        .collect()
}

#[tokio::test]
async fn an_attempt_that_asked_for_no_memory_may_have_what_the_worker_has() {
    let worker = Worker::with_memory(128 << 20);
    if !worker.has_memory_groups() {
        return;
    }
    let gate = "mkfifo gate; echo \"$KAHN_SCRATCH\"; echo up; read -r line < gate; echo \"$line\"";
    let neighbour = worker.assignment(sh(gate));
    let mut neighbour = worker.start(neighbour);
    let text = neighbour.printed("up").await;
    for script in ["exec tail /dev/zero", "tail /dev/zero", "tail /dev/zero; exit 137"] {
        let ended = worker.run(sh(script)).await;
        let failure = ended.failure();
        assert_eq!(failure.cause.kind, CauseKind::OutOfMemory, "{script}: {failure}");
        assert_eq!(&*failure.message, "killed where the worker's memory ended");
        // The kill is not attributed to the attempts after it.
        let ended = worker.run(sh("kill -9 $$")).await;
        assert_eq!(ended.failure().cause.kind, CauseKind::Signal);
        assert!(worker.run(sh(HOG)).await.report.outcome.is_ok());
    }
    let dir = text.lines().next().unwrap();
    std::fs::write(format!("{dir}/gate"), "nothing happened\n").unwrap();
    assert!(neighbour.ended().await.report.outcome.is_ok());
    assert_eq!(survivors(&worker), 0);
}

#[tokio::test]
async fn processors_are_shared_by_weight_or_cut_by_quota_as_configured() {
    let by_weight = Worker::new();
    if !by_weight.has_groups() {
        assert!(by_weight.run(exec(&["true"])).await.report.outcome.is_ok());
        return;
    }
    let weights = [
        in_its_group(&by_weight, "cpu=2", ["cpu.shares", "cpu.weight"]).await,
        in_its_group(&by_weight, "cpu=0.5", ["cpu.shares", "cpu.weight"]).await,
    ];
    assert!(weights == ["2048", "512"] || weights == ["200", "50"], "{weights:?}");
    let settings = LimitSettings { cpu: CpuLimit::Quota, ..LimitSettings::default() };
    let by_quota = Worker::with_limits(settings);
    let quota = in_its_group(&by_quota, "cpu=1.5", ["cpu.cfs_quota_us", "cpu.max"]).await;
    assert!(quota == "150000" || quota == "150000 100000", "{quota}");
    let pids = in_its_group(&by_quota, "cpu=1.5", ["pids.max", "pids.max"]).await;
    // The processes of the task, and the starter thread of the worker.
    assert_eq!(pids, "4097");
}

#[tokio::test]
async fn without_groups_the_address_space_of_each_process_is_limited() {
    let settings = LimitSettings { mode: LimitMode::Rlimit, ..LimitSettings::default() };
    let worker = Worker::with_limits(settings);
    let assignment = worker.asking("memory=64Mi", bash(&format!("set -o pipefail; {HOG}")));
    let ended = worker.carry_out(assignment).await;
    assert_eq!(ended.failure().cause.kind, CauseKind::ExitCode);
    assert!(ended.log.contains("memory exhausted"), "{}", ended.log);
    let ended = worker.carry_out(worker.asking("memory=256Mi", sh(HOG))).await;
    assert!(ended.report.outcome.is_ok());
    assert!(worker.run(sh("test \"$(ulimit -v)\" = unlimited")).await.report.outcome.is_ok());
}

#[tokio::test]
async fn nothing_is_held_where_that_was_chosen() {
    let settings = LimitSettings { mode: LimitMode::Off, ..LimitSettings::default() };
    let worker = Worker::with_limits(settings);
    let ended = worker.carry_out(worker.asking("memory=16Mi", sh(HOG))).await;
    assert!(ended.report.outcome.is_ok());
}

#[tokio::test]
async fn groups_serve_again_and_are_gone_with_the_worker() {
    let worker = Worker::new();
    for _ in 0..50 {
        assert!(worker.run(exec(&["true"])).await.report.outcome.is_ok());
    }
    let record = worker.scratch().parent().unwrap().join("groups");
    let dirs: Vec<PathBuf> =
        std::fs::read_to_string(&record).unwrap_or_default().lines().map(PathBuf::from).collect();
    assert!(!dirs.is_empty() || !worker.has_groups());
    for dir in &dirs {
        let is_group = |entry: &std::fs::DirEntry| entry.file_type().unwrap().is_dir();
        let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
        // Each starter thread may be a member of one.
        assert!((1..10).contains(&entries.filter(is_group).count()), "{}", dir.display());
    }
    drop(worker);
    assert!(dirs.iter().all(|dir| !dir.exists()));
}

#[tokio::test]
async fn what_is_read_and_written_is_counted() {
    let worker = Worker::new();
    // Not in the temporary directory, which may be in memory.
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("io-{}", std::process::id()));
    let name = file.to_str().unwrap();
    let script = format!("dd if=/dev/zero of={name} bs=1M count=8 conv=fsync");
    let Usage { written_bytes, .. } = worker.run(sh(&script)).await.report.usage;
    let script =
        format!("dd if={name} iflag=nocache count=0; dd if={name} of=/dev/null bs=1M iflag=direct");
    let Usage { read_bytes, .. } = worker.run(sh(&script)).await.report.usage;
    std::fs::remove_file(&file).unwrap();
    assert!((8 << 20..16 << 20).contains(&written_bytes), "{written_bytes} written");
    assert!((8 << 20..16 << 20).contains(&read_bytes), "{read_bytes} read");
    assert_eq!(worker.run(exec(&["true"])).await.report.usage.written_bytes, 0);
}
