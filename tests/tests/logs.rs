//! The output of tasks survives kills of the coordinator and of workers: every line once, in order.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use kahn_e2e::{Cluster, ClusterOptions, Store, WorkerOptions, wait_until};

fn worker(name: &str) -> WorkerOptions {
    WorkerOptions {
        name: name.to_owned(),
        capacity: "cpu=2 memory=4Gi".to_owned(),
        label: ("zone".to_owned(), "eu".to_owned()),
        ..WorkerOptions::default()
    }
}

fn one_worker(store: Store) -> anyhow::Result<Cluster> {
    Cluster::start(&ClusterOptions { store, workers: vec![worker("w1")] })
}

/// Submits a DAG with one task `t` that runs this script.
fn submit(cluster: &Cluster, script: &str) -> anyhow::Result<String> {
    let mut file = "name: logs\ntasks:\n  t:\n    run: |\n".to_owned();
    for line in script.lines() {
        writeln!(file, "      {line}")?;
    }
    let file = cluster.write("logs.yaml", &file)?.display().to_string();
    let submitted = cluster.kahn(&["submit", &file, "--output", "json"])?.ok()?.json()?;
    Ok(submitted["run"].as_str().unwrap_or_default().to_owned())
}

fn n_lines(path: &Path) -> usize {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

fn wait_for_lines(path: &Path, n: usize) -> anyhow::Result<()> {
    let what = format!("{n} lines in {}", path.display());
    wait_until(&what, Duration::from_secs(60), || n_lines(path) >= n)
}

fn numbers(range: std::ops::RangeInclusive<u32>) -> String {
    range.fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "{n}");
        text
    })
}

/// Reports the first difference instead of printing megabytes.
fn check_equal(found: &str, expected: &str) -> anyhow::Result<()> {
    for (at, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        anyhow::ensure!(found == expected, "line {at} is `{found}` and not `{expected}`");
    }
    let (n_found, n_expected) = (found.lines().count(), expected.lines().count());
    anyhow::ensure!(n_found == n_expected, "{n_found} lines and not {n_expected}");
    anyhow::ensure!(found == expected, "line feeds differ");
    Ok(())
}

#[test]
fn a_follower_sees_each_of_a_million_lines_once_while_the_coordinator_is_killed_twice()
-> anyhow::Result<()> {
    let mut cluster = one_worker(Store::RedisEverysec)?;
    let script = "for i in $(seq 0 99); do\n\
                  seq $((i * 10000 + 1)) $((i * 10000 + 10000))\nsleep 0.03\ndone";
    let run = submit(&cluster, script)?;
    let mut follower = cluster.start_kahn("follower", &["logs", &run, "t", "--follow"])?;
    let out = cluster.path("follower.out");
    for n_seen in [200_000, 500_000] {
        wait_for_lines(&out, n_seen)?;
        cluster.kill_coordinator()?;
        assert!(n_lines(&out) < 900_000, "the task had ended before the coordinator was killed");
    }
    assert_eq!(follower.wait(Duration::from_secs(60))?, 0);
    let expected = numbers(1..=1_000_000);
    check_equal(&follower.printed(), &expected)?;
    // The same command for a finished task.
    check_equal(&cluster.kahn(&["logs", &run, "t"])?.ok()?.stdout, &expected)?;
    assert_eq!(std::fs::read_to_string(cluster.path("follower.err"))?, "");
    let history = cluster.history(&run)?;
    assert_eq!(history.starts()["t"].len(), 1, "the task was repeated");
    Ok(())
}

#[test]
fn output_that_a_killed_worker_kept_is_shown_before_that_of_the_next_attempt() -> anyhow::Result<()>
{
    let mut cluster = one_worker(Store::Embedded)?;
    let go = cluster.path("go").display().to_string();
    let script = format!(
        "if [ $KAHN_ATTEMPT -gt 1 ]; then echo second; exit; fi\n\
         seq 1 1000\nwhile [ ! -e {go} ]; do sleep 0.05; done\nseq 1001 2000\nsleep 1000"
    );
    let run = submit(&cluster, &script)?;
    let mut follower = cluster.start_kahn("follower", &["logs", &run, "t", "--follow"])?;
    wait_for_lines(&cluster.path("follower.out"), 1000)?;
    // Nothing is shipped from here on, and the worker is killed.
    cluster.coordinator().kill9()?;
    cluster.write("go", "")?;
    let kept = cluster.path("w1/output");
    wait_until("the worker to keep what is printed", Duration::from_secs(20), || {
        let mut files = std::fs::read_dir(&kept).into_iter().flatten().filter_map(Result::ok);
        files.any(|file| n_lines(&file.path()) == 2000)
    })?;
    cluster.kill_worker("w1")?;
    cluster.start_coordinator()?;
    cluster.restart_worker("w1")?;
    assert_eq!(follower.wait(Duration::from_secs(60))?, 0);
    let mark = "[kahn] the worker was ended here; what was printed last may be missing\n";
    check_equal(&follower.printed(), &format!("{}{mark}second\n", numbers(1..=2000)))?;
    assert_eq!(std::fs::read_to_string(cluster.path("follower.err"))?, "--- t: attempt 2 ---\n");
    let first = cluster.kahn(&["logs", &run, "t", "--attempt", "1", "--tail", "2"])?.ok()?.stdout;
    assert_eq!(first, format!("2000\n{mark}"));
    assert!(std::fs::read_dir(&kept)?.next().is_none(), "shipped output was not removed");
    Ok(())
}

#[test]
fn output_that_was_lost_with_its_worker_is_said_to_be_cut() -> anyhow::Result<()> {
    let mut cluster = one_worker(Store::Embedded)?;
    let script = "seq 1 1000\nif [ $KAHN_ATTEMPT -gt 1 ]; then exit; fi\nsleep 1000";
    let run = submit(&cluster, script)?;
    let mut follower = cluster.start_kahn("follower", &["logs", &run, "--follow"])?;
    wait_for_lines(&cluster.path("follower.out"), 1000)?;
    cluster.kill_worker("w1")?;
    cluster.add_worker(worker("w2"))?;
    assert_eq!(follower.wait(Duration::from_secs(60))?, 0);
    let prefixed = numbers(1..=1000).lines().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "t | {line}");
        text
    });
    check_equal(&follower.printed(), &prefixed.repeat(2))?;
    let said = std::fs::read_to_string(cluster.path("follower.err"))?;
    let cut = "--- t: the output of attempt 1 is cut: worker w1 was lost; what was printed last \
               may be missing ---\n--- t: attempt 2 ---\n";
    assert_eq!(said, cut);
    Ok(())
}

#[test]
fn whoever_sees_the_end_of_a_run_sees_all_that_it_printed() -> anyhow::Result<()> {
    let cluster = one_worker(Store::Embedded)?;
    let expected = numbers(1..=300_000);
    for _ in 0..2 {
        let run = submit(&cluster, "seq 1 300000")?;
        cluster.kahn(&["watch", &run])?.ok()?;
        check_equal(&cluster.kahn(&["logs", &run, "t"])?.ok()?.stdout, &expected)?;
    }
    let run = submit(&cluster, "true")?;
    cluster.kahn(&["watch", &run])?.ok()?;
    assert_eq!(cluster.kahn(&["logs", &run, "t", "--follow"])?.ok()?.stdout, "");
    Ok(())
}

#[test]
fn output_that_is_late_is_waited_for_by_whoever_reads_a_finished_run() -> anyhow::Result<()> {
    let mut cluster = one_worker(Store::Embedded)?;
    let go = cluster.path("go").display().to_string();
    let script = format!("while [ ! -e {go} ]; do sleep 0.05; done\nseq 1 300000");
    let run = submit(&cluster, &script)?;
    wait_until("the task to start", Duration::from_secs(20), || {
        cluster.history(&run).is_ok_and(|history| history.has("task_started"))
    })?;
    // It prints and ends without a coordinator: both the result and the output are kept.
    cluster.coordinator().kill9()?;
    cluster.write("go", "")?;
    let spool = cluster.path("w1/results/results.spool");
    wait_until("the worker to keep the result", Duration::from_secs(30), || {
        std::fs::metadata(&spool).is_ok_and(|meta| meta.len() > 0)
    })?;
    cluster.start_coordinator()?;
    cluster.kahn(&["watch", &run])?.ok()?;
    check_equal(&cluster.kahn(&["logs", &run, "t"])?.ok()?.stdout, &numbers(1..=300_000))
}
