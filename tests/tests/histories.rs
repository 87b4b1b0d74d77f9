//! Archived runs are shown by every coordinator like other runs, and can be retried.

use std::time::Duration;

use kahn_blob::testing::{ACCESS_KEY_ID, BUCKET, S3Server, SECRET_ACCESS_KEY};
use kahn_e2e::{Coordinators, Part, wait_until};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Starts coordinators that archive runs on an S3 server soon after their end.
fn start(n: usize, server: &S3Server) -> anyhow::Result<Coordinators> {
    Coordinators::start_with(
        n,
        1,
        &[
            ("KAHN_COORDINATOR__BLOBS__URL", &format!("s3://{BUCKET}/cluster")),
            ("KAHN_COORDINATOR__BLOBS__ENDPOINT", &server.endpoint()),
            ("KAHN_COORDINATOR__BLOBS__ALLOW_HTTP", "true"),
            ("KAHN_COORDINATOR__BLOBS__TIMEOUT", "3s"),
            ("KAHN_COORDINATOR__RETENTION__ARCHIVE_AFTER", "100ms"),
            ("KAHN_COORDINATOR__RETENTION__CHECK_EVERY", "100ms"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ],
    )
}

fn submit(cluster: &Coordinators, file: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let file = cluster.write("dag.yaml", file)?.display().to_string();
    let arguments = [&["submit", &file, "--output", "json"], arguments].concat();
    let submitted = cluster.kahn(&arguments)?.ok()?.json()?;
    Ok(submitted["run"].as_str().unwrap_or_default().to_owned())
}

/// Waits until the leader has archived so many runs, and no other run is in its memory.
fn wait_until_archived(cluster: &Coordinators, n: u32) -> anyhow::Result<()> {
    wait_until("the runs to be archived", TIMEOUT, || {
        let leader = cluster.wait_for_leader(None);
        leader.is_ok_and(|(leader, _)| {
            let metric = |name| cluster.metric(leader, name);
            metric("kahn_runs_archived").is_ok_and(|found| found == f64::from(n))
        })
    })
}

/// Returns everything that commands show of a run, without whether it is archived.
fn shown(cluster: &Coordinators, run: &str) -> anyhow::Result<Vec<String>> {
    let commands: [&[&str]; 9] = [
        &["get", run, "--tasks"],
        &["get", run, "--tasks", "--output", "json"],
        &["events", run],
        &["events", run, "--output", "json"],
        &["explain", run, "good"],
        &["explain", run, "bad", "--output", "json"],
        &["logs", run, "good"],
        &["logs", run, "bad"],
        &["list", "--output", "json"],
    ];
    let show = |command: &&[&str]| {
        let answer = cluster.kahn(command)?.ok()?;
        let lines = answer.stdout.lines().filter(|line| !line.starts_with("archived "));
        let text: Vec<_> = lines.map(|line| line.replace(",\"archived\":true", "")).collect();
        Ok(format!("{command:?}\n{}\n{}", text.join("\n"), answer.stderr))
    };
    commands.iter().map(show).collect()
}

fn is_archived(cluster: &Coordinators, run: &str) -> anyhow::Result<bool> {
    let found = cluster.kahn(&["get", run, "--output", "json"])?.ok()?.json()?;
    Ok(found["archived"] == true)
}

const TWO_TASKS: &str = "\
name: history
tasks:
  good: { run: 'seq 1 1000; echo rows=3 >> \"$KAHN_OUTPUT\"' }
  bad: { run: 'echo oh no; test -e GO' }
  after: { needs: [bad], run: 'true' }
";

#[test]
fn an_archived_run_is_shown_by_another_host_as_before() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut server = S3Server::start(dir.path())?;
    let mut cluster = start(2, &server)?;
    // While the blob store fails, nothing is archived, and nothing else suffers.
    server.stop();
    let run = submit(&cluster, TWO_TASKS, &[])?;
    cluster.kahn(&["watch", &run])?;
    let leader = cluster.wait_for_leader(None)?.0;
    wait_until("an attempt to archive the run", TIMEOUT, || {
        cluster.metric(leader, "kahn_archive_failures_total").is_ok_and(|n| n > 0.0)
    })?;
    let before = shown(&cluster, &run)?;
    assert!(!is_archived(&cluster, &run)?);
    let warning = "finished runs are not archived for now";
    // Once for each leadership.
    assert!(cluster.printed().contains(warning), "{}", cluster.printed());

    server.resume()?;
    wait_until_archived(&cluster, 1)?;
    assert!(is_archived(&cluster, &run)?);
    assert_eq!(shown(&cluster, &run)?, before);

    // Nothing is left of the host, and the worker has sent its output.
    wait_until("the output to be stored", TIMEOUT, || {
        std::fs::read_dir(cluster.kept_output(0)).is_ok_and(|mut files| files.next().is_none())
    })?;
    cluster.kill9(Part::Coordinator(leader))?;
    cluster.remove_data(leader)?;
    cluster.wait_for_leader(Some(leader))?;
    assert!(is_archived(&cluster, &run)?);
    assert_eq!(shown(&cluster, &run)?, before);
    Ok(())
}

#[test]
fn an_archived_run_is_retried_and_archived_again() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let server = S3Server::start(dir.path())?;
    let cluster = start(1, &server)?;
    let go = cluster.write("unused", "")?.with_file_name("go");
    let file = TWO_TASKS.replace("GO", &go.display().to_string());
    let key = ["--idempotency-key", "nightly"];
    let run = submit(&cluster, &file, &key)?;
    wait_until_archived(&cluster, 1)?;
    assert_eq!(submit(&cluster, &file, &key)?, run, "its key is still known");
    cluster.write("go", "")?;
    cluster.kahn(&["retry", &run])?.ok()?;
    cluster.kahn(&["watch", &run])?.ok()?;
    wait_until("the run to be archived again", TIMEOUT, || {
        is_archived(&cluster, &run).unwrap_or(false)
    })?;
    let found = cluster.kahn(&["get", &run, "--output", "json"])?.ok()?.json()?;
    assert_eq!(found["state"], "succeeded");
    assert_eq!(found["archived"], true);
    let history = cluster.history(&run)?;
    let starts = history.starts();
    assert_eq!(starts["good"].len(), 1, "what had succeeded was repeated");
    assert_eq!(starts["bad"].len(), 2);
    Ok(())
}

#[test]
fn an_archived_run_that_is_not_kept_leaves_no_objects() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let blobs = dir.path().join("blobs");
    let url = blobs.display().to_string();
    let cluster = Coordinators::start_with(
        1,
        1,
        &[
            ("KAHN_COORDINATOR__BLOBS__URL", &url),
            ("KAHN_COORDINATOR__RETENTION__ARCHIVE_AFTER", "0s"),
            ("KAHN_COORDINATOR__RETENTION__CHECK_EVERY", "100ms"),
            ("KAHN_COORDINATOR__RETENTION__DEFAULT__RUNS", "1"),
        ],
    )?;
    let objects = |run: &String| blobs.join("history").join(run);
    let first = submit(&cluster, TWO_TASKS, &[])?;
    wait_until_archived(&cluster, 1)?;
    assert!(objects(&first).exists());
    let second = submit(&cluster, TWO_TASKS, &[])?;
    wait_until("the first run to be removed", TIMEOUT, || {
        let known = cluster.kahn(&["get", &first]).is_ok_and(|answer| answer.ok().is_ok());
        !known && !objects(&first).exists()
    })?;
    wait_until("the second run to be archived", TIMEOUT, || objects(&second).exists())?;
    cluster.kahn(&["get", &second])?.ok()?;
    Ok(())
}
