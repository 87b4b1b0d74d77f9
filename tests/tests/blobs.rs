//! Output in a blob store outlives the coordinators that have received it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use kahn_blob::testing::{ACCESS_KEY_ID, BUCKET, S3Server, SECRET_ACCESS_KEY};
use kahn_e2e::{Coordinators, Part, wait_until};

const TIMEOUT: Duration = Duration::from_secs(60);
/// About two megabytes, and thus several objects.
const N_LINES: u32 = 300_000;

/// Starts coordinators that keep output on an S3 server.
fn start(n: usize, n_workers: usize, server: &S3Server) -> anyhow::Result<Coordinators> {
    Coordinators::start_with(
        n,
        n_workers,
        &[
            ("KAHN_COORDINATOR__BLOBS__URL", &format!("s3://{BUCKET}/cluster")),
            ("KAHN_COORDINATOR__BLOBS__ENDPOINT", &server.endpoint()),
            ("KAHN_COORDINATOR__BLOBS__ALLOW_HTTP", "true"),
            ("KAHN_COORDINATOR__BLOBS__TIMEOUT", "3s"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ],
    )
}

fn submit(cluster: &Coordinators, file: &str) -> anyhow::Result<String> {
    let file = cluster.write("dag.yaml", file)?.display().to_string();
    let submitted = cluster.kahn(&["submit", &file, "--output", "json"])?.ok()?.json()?;
    Ok(submitted["run"].as_str().unwrap_or_default().to_owned())
}

fn numbers(n: u32) -> String {
    (1..=n).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "{n}");
        text
    })
}

fn n_lines(path: &Path) -> usize {
    std::fs::read(path).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()
}

/// Checks that `kahn logs` prints exactly this, and has nothing to say about it.
fn check_logs(cluster: &Coordinators, args: &[&str], expected: &str) -> anyhow::Result<()> {
    let answer = cluster.kahn(&[&["logs"], args].concat())?.ok()?;
    // The whole text would be megabytes.
    ensure!(answer.stdout == expected, "{args:?}: {} bytes are wrong", answer.stdout.len());
    ensure!(answer.stderr.is_empty(), "{args:?}: {}", answer.stderr);
    Ok(())
}

fn leader(cluster: &Coordinators) -> anyhow::Result<usize> {
    Ok(cluster.wait_for_leader(None)?.0)
}

/// Kills the leader, removes its data, and waits for the next one.
fn lose_leader(cluster: &mut Coordinators) -> anyhow::Result<usize> {
    let lost = leader(cluster)?;
    cluster.kill9(Part::Coordinator(lost))?;
    cluster.remove_data(lost)?;
    cluster.wait_for_leader(Some(lost))?;
    Ok(lost)
}

fn wait_until_stored(cluster: &Coordinators, n_workers: usize) -> anyhow::Result<()> {
    wait_until("the output to be stored", TIMEOUT, || {
        (0..n_workers).all(|worker| {
            let kept = std::fs::read_dir(cluster.kept_output(worker));
            kept.is_ok_and(|mut files| files.next().is_none())
        })
    })
}

const THREE_TASKS: &str = "\
name: output
tasks:
  large: { run: seq 1 300000 }
  small: { run: echo hello }
  silent: { run: 'true' }
";

fn check_three_tasks(cluster: &Coordinators, run: &str) -> anyhow::Result<()> {
    check_logs(cluster, &[run, "large"], &numbers(N_LINES))?;
    check_logs(cluster, &[run, "small"], "hello\n")?;
    check_logs(cluster, &[run, "silent"], "")
}

#[test]
fn a_run_whose_coordinator_is_gone_shows_all_output_sealed() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let server = S3Server::start(dir.path())?;
    let mut cluster = start(3, 1, &server)?;
    let run = submit(&cluster, THREE_TASKS)?;
    cluster.kahn(&["watch", &run])?.ok()?;
    // It may be stored, or its worker has it.
    lose_leader(&mut cluster)?;
    check_three_tasks(&cluster, &run)?;
    // Now the worker has nothing any more, and is gone itself.
    wait_until_stored(&cluster, 1)?;
    cluster.kill9(Part::Worker(0))?;
    lose_leader(&mut cluster)?;
    check_logs(&cluster, &[&run, "large"], &numbers(N_LINES))?;
    check_logs(&cluster, &[&run, "small"], "hello\n")?;
    check_logs(&cluster, &[&run, "large", "--tail", "2"], "299999\n300000\n")?;
    let objects = std::fs::read_dir(server.bucket_dir().join("cluster/logs").join(&run))?;
    assert_eq!(objects.count(), 2, "a silent task caused an object");
    Ok(())
}

#[test]
fn a_follower_sees_each_line_once_while_leaders_are_lost_with_their_data() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let url = format!("file://{}", dir.path().join("blobs").display());
    let mut cluster = Coordinators::start_with(3, 1, &[("KAHN_COORDINATOR__BLOBS__URL", &url)])?;
    // It does not end before the second leader is lost.
    let go = cluster.write("unused", "")?.with_file_name("go");
    let script = format!(
        "for i in $(seq 0 99); do seq $((i * 3000 + 1)) $((i * 3000 + 3000)); sleep 0.1; \
         while [ $i -eq 60 -a ! -e {} ]; do sleep 0.05; done; done",
        go.display()
    );
    let run = submit(&cluster, &format!("name: output\ntasks:\n  t:\n    run: {script}\n"))?;
    let urls = cluster.urls();
    let mut follower = cluster.start_kahn(&urls, "follower", &["logs", &run, "t", "--follow"])?;
    let out = go.with_file_name("follower.out");
    for n_seen in [60_000, 150_000] {
        wait_until("the follower to see lines", TIMEOUT, || n_lines(&out) >= n_seen)?;
        let lost = lose_leader(&mut cluster)?;
        cluster.restart(Part::Coordinator(lost))?;
    }
    cluster.write("go", "")?;
    assert_eq!(follower.wait(TIMEOUT)?, 0);
    ensure!(follower.printed() == numbers(N_LINES), "the follower saw something else");
    wait_until_stored(&cluster, 1)?;
    lose_leader(&mut cluster)?;
    check_logs(&cluster, &[&run, "t"], &numbers(N_LINES))?;
    assert_eq!(cluster.history(&run)?.starts()["t"].len(), 1, "the task was repeated");
    Ok(())
}

#[test]
fn a_blob_store_that_fails_for_a_while_stops_nothing_and_loses_nothing() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut server = S3Server::start(dir.path())?;
    let mut cluster = start(2, 1, &server)?;
    let script = "seq 1 200000; while [ ! -e GO ]; do sleep 0.05; done; seq 200001 300000";
    let go = cluster.write("stop", "")?.with_file_name("go");
    let script = script.replace("GO", &go.display().to_string());
    let before = submit(&cluster, &format!("name: output\ntasks:\n  t:\n    run: {script}\n"))?;
    let urls = cluster.urls();
    let mut follower =
        cluster.start_kahn(&urls, "follower", &["logs", &before, "t", "--follow"])?;
    let out = go.with_file_name("follower.out");
    wait_until("the follower to see lines", TIMEOUT, || n_lines(&out) >= 200_000)?;
    server.stop();
    cluster.write("go", "")?;

    // Runs go on, and whoever follows them sees their output.
    assert_eq!(follower.wait(TIMEOUT)?, 0);
    ensure!(follower.printed() == numbers(N_LINES), "the follower saw something else");
    let during = submit(&cluster, THREE_TASKS)?;
    cluster.kahn(&["watch", &during])?.ok()?;
    check_logs(&cluster, &[&during, "large"], &numbers(N_LINES))?;
    check_logs(&cluster, &[&during, "small"], "hello\n")?;
    let leading = leader(&cluster)?;
    wait_until("the metrics to tell", TIMEOUT, || {
        let metric = |name| cluster.metric(leading, name).unwrap_or_default();
        metric("kahn_log_upload_failures_total") > 0.0 && metric("kahn_log_uploads_pending") > 1.0
    })?;
    let said = cluster.printed();
    let warning = "output is not written to the blob store for now";
    ensure!(said.matches(warning).count() == 1, "{said}");

    // Only the worker has this output then.
    lose_leader(&mut cluster)?;
    server.resume()?;
    for run in [&before, &during] {
        cluster.kahn(&["watch", run])?.ok()?;
    }
    wait_until_stored(&cluster, 1)?;
    check_logs(&cluster, &[&before, "t"], &numbers(N_LINES))?;
    check_three_tasks(&cluster, &during)?;
    Ok(())
}

#[test]
fn runs_and_output_that_are_not_kept_leave_no_objects_and_readers_are_told() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let blobs = dir.path().join("blobs");
    let cluster = Coordinators::start_with(
        1,
        1,
        &[
            ("KAHN_COORDINATOR__BLOBS__URL", &blobs.display().to_string()),
            ("KAHN_COORDINATOR__RETENTION__CHECK_EVERY", "200ms"),
            ("KAHN_COORDINATOR__RETENTION__DEFAULT__RUNS", "2"),
            ("KAHN_COORDINATOR__RETENTION__DEFAULT__LOG_AGE", "1s"),
        ],
    )?;
    let mut runs = Vec::new();
    for _ in 0..3 {
        let run = submit(&cluster, "name: output\ntasks:\n  t: { run: echo hello }\n")?;
        cluster.kahn(&["watch", &run])?.ok()?;
        runs.push(run);
    }
    let has_objects = |run: &String| blobs.join("logs").join(run).exists();
    wait_until("the first run to be removed", TIMEOUT, || {
        let known = cluster.kahn(&["get", &runs[0]]).is_ok_and(|answer| answer.ok().is_ok());
        !known && !has_objects(&runs[0])
    })?;
    for run in &runs[1..] {
        wait_until("output to be removed", TIMEOUT, || {
            let answer = cluster.kahn(&["logs", run, "t"]);
            answer.is_ok_and(|answer| answer.stderr.contains("retention.log_age"))
        })?;
        let left = std::fs::read_dir(blobs.join("logs").join(run))?;
        let left: Vec<_> = left.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        assert_eq!(left, ["removed"]);
        cluster.kahn(&["get", run])?.ok()?;
    }
    Ok(())
}
