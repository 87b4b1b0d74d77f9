//! Workers whose number follows the demand, with KEDA and with a HorizontalPodAutoscaler.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use super::release::Release;
use super::report::Report;
use crate::kubernetes::commands::poll;

const DEPLOYMENT: &str = "deployment/kahn-worker-burst";
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A pool that KEDA scales.
const KEDA: &str = "
pools:
  default: {}
  burst:
    terminationGracePeriodSeconds: 120
    autoscaling:
      type: keda
      minReplicas: 0
      maxReplicas: 5
      behavior: { scaleDown: { stabilizationWindowSeconds: 5 } }
      keda: { pollingInterval: 5, cooldownPeriod: 10 }
";

/// The same pool, scaled by a HorizontalPodAutoscaler and an external metric.
const HPA: &str = "
pools:
  default: {}
  burst:
    terminationGracePeriodSeconds: 120
    autoscaling:
      type: hpa
      maxReplicas: 3
      behavior: { scaleDown: { stabilizationWindowSeconds: 5 } }
";

/// A name, and what is done. Returns what it has shown.
type Scenario = (&'static str, fn(&Release<'_>) -> anyhow::Result<String>);

/// Runs all scenarios on an installed release.
///
/// # Errors
///
/// Returns an error that names the scenario that failed, and what it has found.
pub(super) fn run_all(release: &Release<'_>, report: &mut Report) -> anyhow::Result<()> {
    release.cluster.install_keda().context("KEDA")?;
    release.upgrade_with(KEDA)?;
    let scenarios: [Scenario; 3] = [
        ("0 to 5 workers by demand, with KEDA", grow),
        ("5 workers to 0, idle ones first", shrink),
        ("leader lost while 3 workers are busy", change_leader),
    ];
    run(release, &scenarios, report)?;
    // Only one of them can answer for the external metrics of a cluster.
    release.kubectl(&["delete", "scaledobjects", "--all"])?;
    let token = release.kubectl(&["get", "secret", "kahn-tokens", "--output", TOKEN])?;
    release.cluster.kubectl(&["delete", "namespace", "keda", "--wait=false"])?;
    release.cluster.install_prometheus_adapter(&token).context("the Prometheus adapter")?;
    release.upgrade_with(HPA)?;
    // A HorizontalPodAutoscaler leaves a deployment without pods alone.
    release.kubectl(&["scale", DEPLOYMENT, "--replicas=1"])?;
    run(release, &[("1 to 3 to 1 workers, with HPA and Prometheus", follow_with_hpa)], report)
}

const TOKEN: &str = "go-template={{index .data \"metrics-token\" | base64decode}}";

fn run(release: &Release<'_>, scenarios: &[Scenario], report: &mut Report) -> anyhow::Result<()> {
    for (name, scenario) in scenarios {
        let began = Instant::now();
        let result = scenario(release)
            .with_context(|| release.cluster.explain_scaling())
            .with_context(|| (*name).to_owned())?;
        report.add(name, began.elapsed(), result);
    }
    Ok(())
}

/// Returns a DAG of tasks for the pool, of which two fit a worker.
fn tasks(n: usize, seconds: u32) -> String {
    let mut file = String::from(
        "name: burst\ndefaults: { resources: { cpu: 0.5 }, labels: { require: { pool: burst } } }\n\
         tasks:\n",
    );
    for n in 0..n {
        file.push_str(&format!("  t{n}: {{ run: sleep {seconds} }}\n"));
    }
    file
}

/// Returns the number of workers that the pool is to have.
fn replicas(release: &Release<'_>) -> anyhow::Result<u32> {
    let query = ["get", DEPLOYMENT, "--output", "jsonpath={.spec.replicas}"];
    Ok(release.kubectl(&query)?.parse()?)
}

fn wait_for_replicas(release: &Release<'_>, wanted: u32) -> anyhow::Result<()> {
    poll(&format!("{wanted} workers"), || replicas(release).is_ok_and(|found| found == wanted))
}

/// Waits until the pool has no pod that does not end.
fn wait_for_pods(release: &Release<'_>, wanted: usize) -> anyhow::Result<()> {
    poll(&format!("{wanted} pods"), || {
        release.pods_of_pool("burst").is_ok_and(|pods| pods.len() == wanted)
    })
}

fn grow(release: &Release<'_>) -> anyhow::Result<String> {
    wait_for_replicas(release, 0)?;
    wait_for_pods(release, 0)?;
    let began = Instant::now();
    let run = release.submit(&tasks(30, 10))?;
    poll("the first worker", || replicas(release).is_ok_and(|found| 0 < found))?;
    let first = began.elapsed();
    poll("the first task", || {
        release.get(&run).is_ok_and(|found| found["tasks"]["running"].as_u64() > Some(0))
    })?;
    let started = began.elapsed();
    wait_for_replicas(release, 5)?;
    let all = began.elapsed();
    let n_repeated = release.wait_for_success(&run)?;
    ensure!(n_repeated == 0, "{n_repeated} attempts repeated");
    Ok(format!(
        "first worker wanted after {:.1} s, first task started after {:.1} s, five wanted after \
         {:.1} s; 30 tasks succeeded, 0 repeated",
        first.as_secs_f64(),
        started.as_secs_f64(),
        all.as_secs_f64()
    ))
}

fn shrink(release: &Release<'_>) -> anyhow::Result<String> {
    let run = release.submit(&tasks(10, 15))?;
    wait_for_replicas(release, 5)?;
    let long = release.submit(&tasks(1, 60))?;
    let n_repeated = release.wait_for_success(&run)?;
    ensure!(n_repeated == 0, "{n_repeated} attempts repeated");
    wait_for_replicas(release, 1)?;
    let idle =
        release.kubectl(&["get", "pods", "--selector", "kahn/pool=burst", "--output", "yaml"])?;
    ensure!(idle.contains(COST), "no pod has a cost: {idle}");
    wait_for_pods(release, 1)?;
    let state = release.get(&long)?["state"].clone();
    ensure!(state == "active", "the long task was {state} before the idle workers were gone");
    let n_repeated = release.wait_for_success(&long)?;
    ensure!(n_repeated == 0, "the long task was interrupted");
    let began = Instant::now();
    wait_for_replicas(release, 0)?;
    wait_for_pods(release, 0)?;
    Ok(format!(
        "the four idle workers were removed and the busy one kept; 0 workers {:.0} s after its end",
        began.elapsed().as_secs_f64()
    ))
}

/// Whoever leads next knows at first neither the workers nor their tasks.
fn change_leader(release: &Release<'_>) -> anyhow::Result<String> {
    let run = release.submit(&tasks(6, 60))?;
    wait_for_replicas(release, 3)?;
    release.wait_for_running(&run, 6)?;
    let leader = release.leader()?;
    release.kubectl(&["delete", "pod", &leader, "--grace-period=0", "--force"])?;
    let began = Instant::now();
    let mut least = u32::MAX;
    poll("half a minute", || {
        least = least.min(replicas(release).unwrap_or(u32::MAX));
        Duration::from_secs(30) <= began.elapsed()
    })?;
    ensure!(least == 3, "there were only {least} workers for a while");
    let n_repeated = release.wait_for_success(&run)?;
    ensure!(n_repeated == 0, "{n_repeated} attempts repeated");
    wait_for_replicas(release, 0)?;
    Ok("always 3 until the tasks had ended; 0 repeated".to_owned())
}

fn follow_with_hpa(release: &Release<'_>) -> anyhow::Result<String> {
    wait_for_replicas(release, 1)?;
    let began = Instant::now();
    let run = release.submit(&tasks(12, 15))?;
    wait_for_replicas(release, 3)?;
    let grown = began.elapsed();
    let n_repeated = release.wait_for_success(&run)?;
    ensure!(n_repeated == 0, "{n_repeated} attempts repeated");
    wait_for_replicas(release, 1)?;
    Ok(format!("three wanted after {:.1} s; 12 tasks succeeded, 0 repeated", grown.as_secs_f64()))
}
