//! Tasks that run as pods: what they get, how they end, and what survives.

mod endings;
mod files;

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::Instant;

use super::release::Release;
use super::report::Report;
use crate::history::History;
use crate::kubernetes::commands::poll;

/// The number of pods that exist at once.
const N_PODS: usize = 500;
/// The number of pods, one after the other, by which the cost of a pod is measured.
const N_MEASURED: u32 = 15;

/// Runs all scenarios of pods on an installed release.
///
/// # Errors
///
/// Returns an error that names the scenario that failed, and what it has found.
pub(super) fn run_all(release: &Release<'_>, report: &mut Report) -> anyhow::Result<()> {
    release.cluster.apply(files::OBJECTS)?;
    release.upgrade_with(files::VALUES)?;
    release.kubectl(&["rollout", "status", "deployment/kahn-worker-pods", "--timeout=120s"])?;
    type Scenario = fn(&Release<'_>) -> anyhow::Result<String>;
    let scenarios: [(&'static str, Scenario); 8] = [
        ("pod with everything that a task can ask for", everything),
        ("pods that end in each way", endings::all_causes),
        ("pod deleted by hand, pod evicted", endings::disruptions),
        ("pod cancelled", endings::cancellation),
        ("worker of a running pod killed", adoption),
        ("pod whose node is lost", endings::lost_node),
        ("cost of a pod", cost),
        ("500 pods at once", many),
    ];
    for (name, scenario) in scenarios {
        let began = Instant::now();
        let result = scenario(release).context(name)?;
        report.add(name, began.elapsed(), result);
    }
    let left = release.kubectl(&["get", "pods", "--selector", "kahn/run", "--output", "name"])?;
    ensure!(left.is_empty(), "pods are left: {left}");
    Ok(())
}

/// Reads the history of a run that has ended.
fn history(release: &Release<'_>, run: &str) -> anyhow::Result<History> {
    poll(&format!("the end of {run}"), || {
        let state = release.get(run).map(|found| found["state"].clone()).unwrap_or_default();
        matches!(state.as_str(), Some("succeeded" | "failed" | "cancelled"))
    })?;
    History::read(&release.kahn(&["events", run, "--output", "json"])?)
}

/// Waits until a task of a run has printed something, and returns the name of its pod.
fn running_pod(release: &Release<'_>, run: &str) -> anyhow::Result<String> {
    let selector = format!("kahn/run={run}");
    let query = [
        "get",
        "pods",
        "--selector",
        &selector,
        "--field-selector",
        "status.phase=Running",
        "--output",
        "name",
    ];
    let mut pods = String::new();
    poll(&format!("a running pod of {run}"), || {
        pods = release.kubectl(&query).unwrap_or_default();
        !pods.is_empty()
    })?;
    let first = pods.lines().next().unwrap_or_default();
    Ok(first.trim_start_matches("pod/").to_owned())
}

fn everything(release: &Release<'_>) -> anyhow::Result<String> {
    let run = release.submit(files::EVERYTHING)?;
    let pod = running_pod(release, &run)?;
    let spec = release.kubectl(&["get", "pod", &pod, "--output", "yaml"])?;
    for part in ["serviceAccountName: reader", "cpu: 100m", "memory: \"67108864\"", "note: a b"] {
        ensure!(spec.contains(part), "{part} is not in {spec}");
    }
    ensure!(!spec.contains("hidden-word"), "a secret is in the spec: {spec}");
    release.wait_for_success(&run)?;
    let found = release.kahn(&["get", &run, "--tasks", "--output", "json"])?.stdout;
    ensure!(found.contains("red"), "no output: {found}");
    let logs = release.kahn(&["logs", &run, "all"])?.stdout;
    ensure!(logs.contains("hello from a pod\nword= ***"), "the log is {logs}");
    let secrets = ["get", "secrets", "--selector", "kahn/run", "--output", "name"];
    poll("the end of the secret", || release.kubectl(&secrets).is_ok_and(|left| left.is_empty()))?;
    Ok("all of it arrived; outputs, log and secrets as with other containers".to_owned())
}

/// Kills the worker process while a pod runs. Kubernetes starts it again in the same pod.
fn adoption(release: &Release<'_>) -> anyhow::Result<String> {
    let run = release.submit(&files::counting(200))?;
    let pod = running_pod(release, &run)?;
    let uid = ["get", "pod", &pod, "--output", "jsonpath={.metadata.uid}"];
    let before = release.kubectl(&uid)?;
    poll("some output", || {
        release.kahn(&["logs", &run, "count"]).is_ok_and(|logs| logs.stdout.contains("line 20\n"))
    })?;
    let worker = release.pods_of_pool("pods")?.pop().context("no worker")?;
    release.cluster.kill_container("kahn", &worker, "worker")?;
    let after = release.kubectl(&uid)?;
    ensure!(before == after, "the pod was replaced");
    let n_repeated = release.wait_for_success(&run)?;
    ensure!(n_repeated == 0, "{n_repeated} attempts repeated");
    let logs = release.kahn(&["logs", &run, "count"])?.stdout;
    let expected: String = (1..=200).map(|n| format!("line {n}\n")).collect();
    ensure!(logs == expected, "the log is {logs}");
    Ok("the new process continued with the pod; 0 repeated, no line of output lost or repeated"
        .into())
}

/// Compares pods as tasks with pods that `kubectl` creates, one after the other.
fn cost(release: &Release<'_>) -> anyhow::Result<String> {
    let mut bare = Vec::new();
    for n in 0..N_MEASURED {
        let began = Instant::now();
        release.cluster.apply(&files::bare_pod(n))?;
        let name = format!("pod/bare-{n}");
        let ended = "--for=jsonpath={.status.phase}=Succeeded";
        release.kubectl(&["wait", &name, ended, "--timeout=60s"])?;
        bare.push(began.elapsed());
        release.kubectl(&["delete", &name, "--wait=false"])?;
    }
    let began = Instant::now();
    let run = release.submit(&files::chain(N_MEASURED))?;
    release.wait_for_success(&run)?;
    let as_task = began.elapsed() / N_MEASURED;
    bare.sort_unstable();
    let bare = bare[bare.len() / 2];
    let ratio = as_task.as_secs_f64() / bare.as_secs_f64();
    Ok(format!(
        "a task {:.2} s, with a bare pod by kubectl {:.2} s: {ratio:.2} times",
        as_task.as_secs_f64(),
        bare.as_secs_f64()
    ))
}

fn many(release: &Release<'_>) -> anyhow::Result<String> {
    let run = release.submit(&files::many(N_PODS))?;
    let began = Instant::now();
    let selector = format!("kahn/run={run}");
    let query = ["get", "pods", "--selector", &selector, "--output", "name"];
    let mut n_most = 0;
    poll("all pods", || {
        let n_pods = release.kubectl(&query).map_or(0, |pods| pods.lines().count());
        n_most = n_most.max(n_pods);
        n_most == N_PODS || Duration::from_secs(60) < began.elapsed()
    })?;
    if n_most < N_PODS {
        let workers = release.kahn(&["workers"])?.stdout;
        bail!("only {n_most} pods at once: {}\n{workers}", release.get(&run)?);
    }
    let created = began.elapsed();
    release.wait_for_long_run(&run, Duration::from_secs(1200))?;
    let n_repeated = release.wait_for_success(&run)?;
    ensure!(n_repeated == 0, "{n_repeated} attempts repeated");
    Ok(format!("all created after {:.1} s; all succeeded, 0 repeated", created.as_secs_f64()))
}
