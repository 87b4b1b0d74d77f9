//! The scenarios, one after the other on the same release.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::Instant;

use super::pods;
use super::release::Release;
use super::report::Report;
use super::scaling;
use crate::kubernetes::Kubernetes;
use crate::kubernetes::commands::poll;

/// The number of tasks that run and wait while something happens to their cluster.
const N_TASKS: usize = 500;

/// Scenarios that can be run without the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Changes and faults of a release.
    Release,
    /// Tasks that run as pods.
    Pods,
    /// Workers whose number follows the demand.
    Scaling,
}

impl Group {
    /// All groups.
    pub const ALL: [Self; 3] = [Self::Release, Self::Pods, Self::Scaling];
}

impl FromStr for Group {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "release" => Self::Release,
            "pods" => Self::Pods,
            "scaling" => Self::Scaling,
            _ => bail!("{text:?} is none of release, pods and scaling"),
        })
    }
}

/// Runs the scenarios of these groups, and adds what they have shown to `report`.
///
/// # Errors
///
/// Returns an error that names the scenario that failed, and what it has found.
pub fn run(cluster: &Kubernetes, groups: &[Group], report: &mut Report) -> anyhow::Result<()> {
    let release = install(cluster, report).context("install")?;
    if cluster.earlier_chart().is_some() {
        for (scenario, change) in CHANGES_OF_VERSION {
            under_load(&release, *change, report, scenario).context(*scenario)?;
        }
    }
    if groups.contains(&Group::Release) {
        for (scenario, change) in CHANGES {
            let took = under_load(&release, *change, report, scenario);
            took.with_context(|| (*scenario).to_owned())?;
        }
    }
    if groups.contains(&Group::Pods) {
        pods::run_all(&release, report)?;
    }
    if groups.contains(&Group::Scaling) {
        scaling::run_all(&release, report)?;
    }
    uninstall(&release, report).context("uninstall")?;
    check_examples(cluster, report).context("examples")
}

/// A change of the cluster, and whether it may end attempts.
type Change = (fn(&Release<'_>) -> anyhow::Result<()>, Repeats);

/// Whether attempts may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeats {
    Never,
    /// The worker has ended with its attempts.
    OfLostWorker,
}

/// From the earlier version to this one and back, and to this one again.
const CHANGES_OF_VERSION: &[(&str, Change)] = &[
    ("helm upgrade from the earlier version", (|release| release.upgrade("1"), Repeats::Never)),
    ("helm rollback to the earlier version", (roll_back, Repeats::Never)),
    ("helm upgrade again", (|release| release.upgrade("1"), Repeats::Never)),
];

const CHANGES: &[(&str, Change)] = &[
    ("helm upgrade", (|release| release.upgrade("2"), Repeats::Never)),
    ("helm rollback", (roll_back, Repeats::Never)),
    ("leader deleted by force", (|release| delete(release, &release.leader()?), Repeats::Never)),
    ("standby deleted by force", (delete_standby, Repeats::Never)),
    ("redis deleted by force", (|release| delete_one(release, "redis"), Repeats::Never)),
    ("worker deleted by force", (|release| delete_one(release, "worker"), Repeats::OfLostWorker)),
    ("API server away for 30 s", (cut_off_api_server, Repeats::Never)),
    ("node drained", (drain, Repeats::Never)),
    ("workers scaled from 2 to 5 to 1", (scale, Repeats::Never)),
];

/// Installs the chart, and runs its test and the first DAG.
fn install<'a>(cluster: &'a Kubernetes, report: &mut Report) -> anyhow::Result<Release<'a>> {
    let began = Instant::now();
    let release = Release::install(cluster)?;
    let run = release.submit("name: first\ntasks:\n  hello: { run: echo hello }\n")?;
    release.wait_for_success(&run)?;
    report.add("helm install, until the first run has ended", began.elapsed(), "succeeded");
    let began = Instant::now();
    release.helm_about("test", &[])?;
    report.add("helm test", began.elapsed(), "passed");
    Ok(release)
}

/// Makes a change while tasks run and wait, and checks that all succeed.
fn under_load(
    release: &Release<'_>,
    (change, repeats): Change,
    report: &mut Report,
    scenario: &'static str,
) -> anyhow::Result<()> {
    let run = release.submit(&load())?;
    release.wait_for_tasks(&run, 10)?;
    let began = Instant::now();
    change(release)?;
    release.wait_until_whole()?;
    let took = began.elapsed();
    let n_repeated = release.wait_for_success(&run)?;
    ensure!(repeats == Repeats::OfLostWorker || n_repeated == 0, "{n_repeated} attempts repeated");
    report.add(scenario, took, format!("{N_TASKS} tasks succeeded, {n_repeated} repeated"));
    Ok(())
}

fn load() -> String {
    let mut file = String::from("name: load\ndefaults: { resources: { cpu: 0.1 } }\ntasks:\n");
    for n in 0..N_TASKS {
        file.push_str(&format!("  t{n}: {{ run: sleep 1 }}\n"));
    }
    file
}

fn roll_back(release: &Release<'_>) -> anyhow::Result<()> {
    release.helm_about("rollback", &["--wait"]).map(drop)
}

fn delete(release: &Release<'_>, pod: &str) -> anyhow::Result<()> {
    release.kubectl(&["delete", "pod", pod, "--grace-period=0", "--force"]).map(drop)
}

fn delete_one(release: &Release<'_>, component: &str) -> anyhow::Result<()> {
    let pod = release.pods(component)?.pop();
    delete(release, &pod.with_context(|| format!("no pod of {component}"))?)
}

fn delete_standby(release: &Release<'_>) -> anyhow::Result<()> {
    let leader = release.leader()?;
    let standby = release.pods("coordinator")?.into_iter().find(|pod| *pod != leader);
    delete(release, &standby.context("no standby")?)
}

/// What runs needs no API server.
fn cut_off_api_server(release: &Release<'_>) -> anyhow::Result<()> {
    release.cluster.cut_off_api_server(Duration::from_secs(30))
}

fn drain(release: &Release<'_>) -> anyhow::Result<()> {
    let node = "kahn-node-2";
    let options = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=150s"];
    let drained = release.kubectl(&[&["drain", node], &options[..]].concat());
    release.kubectl(&["uncordon", node])?;
    drained.map(drop)
}

fn scale(release: &Release<'_>) -> anyhow::Result<()> {
    for n in ["5", "1", "2"] {
        let replicas = format!("--replicas={n}");
        release.kubectl(&["scale", "deployment/kahn-worker-default", &replicas])?;
        release.wait_until_whole()?;
    }
    Ok(())
}

/// Removes the release, and checks that it leaves only what it says.
fn uninstall(release: &Release<'_>, report: &mut Report) -> anyhow::Result<()> {
    let began = Instant::now();
    release.kubectl(&["delete", "pod", "client", "--wait"])?;
    release.helm_about("uninstall", &["--wait"])?;
    let kinds = "all,configmaps,secrets,serviceaccounts,networkpolicies,poddisruptionbudgets,roles,\
                 rolebindings,persistentvolumeclaims,ingresses,horizontalpodautoscalers";
    let selector = "app.kubernetes.io/instance=kahn";
    let is_kept = |name: &str| name.starts_with("persistentvolumeclaim/");
    let mut left = String::new();
    // Pods end some time after helm has.
    let gone = poll("everything else to be gone", || {
        let query = ["get", kinds, "--selector", selector, "--output", "name"];
        left = release.kubectl(&query).unwrap_or_default();
        left.lines().all(is_kept)
    });
    gone.with_context(|| format!("left behind: {left}"))?;
    let claims = left.lines().count();
    report.add(
        "helm uninstall",
        began.elapsed(),
        format!("{claims} volume claims left, nothing else"),
    );
    Ok(())
}

/// Groups of the API that this cluster does not have.
const FOREIGN: [&str; 4] =
    ["monitoring.coreos.com", "keda.sh", "cert-manager.io", "gateway.networking.k8s.io"];

/// Renders the chart with each file of examples, and lets the API server check all objects.
fn check_examples(cluster: &Kubernetes, report: &mut Report) -> anyhow::Result<()> {
    let began = Instant::now();
    let chart = crate::project().join("helm/kahn");
    // One of the examples has objects in this namespace, too.
    cluster.apply("apiVersion: v1\nkind: Namespace\nmetadata: { name: tasks }\n")?;
    let (mut n_files, mut n_objects, mut n_foreign) = (0, 0, 0);
    for file in std::fs::read_dir(chart.join("ci"))? {
        let (path, chart) = (file?.path().display().to_string(), chart.display().to_string());
        let render = ["template", "example", &chart, "--namespace", "default", "--values", &path];
        let rendered = cluster.helm(&render)?;
        let objects = rendered.split("\n---").filter(|object| object.contains("apiVersion:"));
        let (foreign, own): (Vec<&str>, Vec<&str>) =
            objects.partition(|object| FOREIGN.iter().any(|group| object.contains(group)));
        cluster.check_manifest(&own.join("\n---")).with_context(|| path.clone())?;
        (n_files, n_objects) = (n_files + 1, n_objects + own.len());
        n_foreign += foreign.len();
    }
    let result = format!(
        "{n_objects} objects of {n_files} files accepted by the API server; {n_foreign} of kinds \
         that it does not know not checked"
    );
    report.add("examples of values", began.elapsed(), result);
    Ok(())
}
