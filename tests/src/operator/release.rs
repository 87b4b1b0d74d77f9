//! A release of the chart, and a client in the cluster.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::binary::Answer;
use crate::history::History;
use crate::kubernetes::Kubernetes;
use crate::kubernetes::commands::poll;

/// The name of the release, and of its namespace.
const NAME: &str = "kahn";
/// The images that upgrades alternate between.
pub(super) const REPOSITORY: &str = "kahn.test/kahn";
pub(super) const REDIS: (&str, &str) = ("kahn.test/redis", "1");
/// The tag of the image with the earlier version.
pub(super) const EARLIER: &str = "earlier";
/// How long a command of helm may take.
const HELM_TIMEOUT: &str = "180s";

/// A pod in which clients run. Connections through the API server would end with a coordinator.
const CLIENT: &str = "
apiVersion: v1
kind: Pod
metadata: { name: client, namespace: kahn, labels: { app.kubernetes.io/name: client } }
spec:
  # The other node is drained.
  nodeName: kahn-node-1
  terminationGracePeriodSeconds: 1
  containers:
  - name: client
    image: kahn.test/kahn:1
    imagePullPolicy: Never
    command: [sleep, '1000000']
    env:
    - { name: KAHN_COORDINATOR_URL, value: 'https://kahn-coordinator.kahn.svc:7400' }
    - { name: KAHN_CA_FILE, value: /tls/ca.crt }
    - { name: KAHN_DATA_DIR, value: /tmp }
    - { name: NO_COLOR, value: '1' }
    - name: KAHN_TOKEN
      valueFrom: { secretKeyRef: { name: kahn-tokens, key: client-token } }
    - name: METRICS_TOKEN
      valueFrom: { secretKeyRef: { name: kahn-tokens, key: metrics-token } }
    volumeMounts: [{ name: tls, mountPath: /tls }]
  volumes:
  - name: tls
    secret: { secretName: kahn-coordinator-tls, items: [{ key: ca.crt, path: ca.crt }] }
";

/// An installed release.
#[derive(Debug)]
pub(super) struct Release<'a> {
    pub(super) cluster: &'a Kubernetes,
}

impl<'a> Release<'a> {
    /// Installs the chart with its default values, apart from images and the size of workers: that of
    /// the earlier version, if there is one.
    pub(super) fn install(cluster: &'a Kubernetes) -> anyhow::Result<Self> {
        let release = Self { cluster };
        match cluster.earlier_chart() {
            Some(chart) => {
                release.helm_with(&chart, "install", &["--create-namespace"], EARLIER)?
            }
            None => release.helm("install", &["--create-namespace"], "1")?,
        }
        cluster.apply(CLIENT)?;
        release.kubectl(&["wait", "--for=condition=Ready", "pod/client", "--timeout=60s"])?;
        Ok(release)
    }

    /// Upgrades to the image with this tag.
    pub(super) fn upgrade(&self, tag: &str) -> anyhow::Result<()> {
        self.helm("upgrade", &[], tag)
    }

    /// Upgrades with further values, given as a YAML file.
    pub(super) fn upgrade_with(&self, values: &str) -> anyhow::Result<()> {
        let file = self.cluster.write("values.yaml", values)?;
        self.helm("upgrade", &["--values", &file.display().to_string()], "1")
    }

    fn helm(&self, verb: &str, options: &[&str], tag: &str) -> anyhow::Result<()> {
        self.helm_with(&crate::project().join("helm/kahn"), verb, options, tag)
    }

    fn helm_with(
        &self,
        chart: &Path,
        verb: &str,
        options: &[&str],
        tag: &str,
    ) -> anyhow::Result<()> {
        let chart = chart.display().to_string();
        let repository = format!("image.repository={REPOSITORY}");
        let tag = format!("image.tag={tag}");
        let redis = format!("redis.image.repository={},redis.image.tag={}", REDIS.0, REDIS.1);
        let settings = [
            repository.as_str(),
            &tag,
            "image.pullPolicy=Never",
            "redis.image.registry=",
            &redis,
            "redis.image.pullPolicy=Never",
            // Five workers have to fit into two small nodes.
            "workerDefaults.resources.requests.cpu=200m",
            "workerDefaults.capacity.cpu=1",
        ];
        let mut arguments =
            vec![verb, NAME, &chart, "--namespace", NAME, "--wait", "--timeout", HELM_TIMEOUT];
        arguments.extend(options);
        arguments.extend(settings.iter().flat_map(|setting| ["--set-string", setting]));
        self.cluster.helm(&arguments).map(drop)
    }

    /// Runs a command of helm about the release.
    pub(super) fn helm_about(&self, verb: &str, options: &[&str]) -> anyhow::Result<String> {
        let mut arguments = vec![verb, NAME, "--namespace", NAME, "--timeout", HELM_TIMEOUT];
        arguments.extend(options);
        self.cluster.helm(&arguments)
    }

    /// Runs `kubectl` in the namespace of the release.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.cluster.kubectl(&[&["--namespace", NAME], arguments].concat())
    }

    /// Runs `kahn` as a client in the cluster.
    pub(super) fn kahn(&self, arguments: &[&str]) -> anyhow::Result<Answer> {
        let exec = ["exec", "client", "--", "kahn"];
        let stdout = self.kubectl(&[&exec, arguments].concat())?;
        Ok(Answer { code: 0, stdout, stderr: String::new() })
    }

    /// Submits a DAG file, and returns the run.
    pub(super) fn submit(&self, document: &str) -> anyhow::Result<String> {
        let script = format!(
            "cat > /tmp/dag.yaml <<'END'\n{document}END\nkahn submit /tmp/dag.yaml --output json"
        );
        let stdout = self.kubectl(&["exec", "client", "--", "sh", "-c", &script])?;
        let submitted = Answer { code: 0, stdout, stderr: String::new() }.json()?;
        let run = submitted["run"].as_str().context("no run")?;
        Ok(run.to_owned())
    }

    pub(super) fn get(&self, run: &str) -> anyhow::Result<Value> {
        self.kahn(&["get", run, "--output", "json"])?.json()
    }

    /// Waits until this number of tasks of a run have succeeded.
    pub(super) fn wait_for_tasks(&self, run: &str, n: u64) -> anyhow::Result<()> {
        poll(&format!("{n} tasks of {run}"), || {
            let found = self.get(run);
            found.is_ok_and(|found| Some(n) <= found["tasks"]["succeeded"].as_u64())
        })
    }

    /// Waits until this number of tasks of a run are running.
    pub(super) fn wait_for_running(&self, run: &str, n: u64) -> anyhow::Result<()> {
        poll(&format!("{n} running tasks of {run}"), || {
            self.get(run).is_ok_and(|found| found["tasks"]["running"].as_u64() == Some(n))
        })
    }

    /// Waits for the success of a run, and returns the number of attempts that were repeated.
    pub(super) fn wait_for_success(&self, run: &str) -> anyhow::Result<usize> {
        let mut found = Value::Null;
        poll(&format!("the end of {run}"), || {
            found = self.get(run).unwrap_or_default();
            matches!(found["state"].as_str(), Some("succeeded" | "failed" | "cancelled"))
        })?;
        ensure!(found["state"] == "succeeded", "run {run}: {found}");
        let history = History::read(&self.kahn(&["events", run, "--output", "json"])?)?;
        history.check_outcomes()?;
        Ok(history.starts().values().map(|starts| starts.len() - 1).sum())
    }

    /// Returns the pod of the leader.
    pub(super) fn leader(&self) -> anyhow::Result<String> {
        let lease = self.pods("coordinator")?.into_iter().find(|pod| self.leads(pod));
        lease.context("no coordinator leads")
    }

    fn leads(&self, pod: &str) -> bool {
        let url = format!("http://{pod}.kahn-coordinators:7401/metrics");
        let script = format!("wget -qO- --header \"Authorization: Bearer $METRICS_TOKEN\" {url}");
        let metrics = self.kubectl(&["exec", "client", "--", "sh", "-c", &script]);
        metrics.is_ok_and(|text| text.contains("kahn_coordinator_role{role=\"leader\"} 1"))
    }

    /// Returns the names of the pods of a component.
    pub(super) fn pods(&self, component: &str) -> anyhow::Result<Vec<String>> {
        let selector = format!("app.kubernetes.io/component={component}");
        let pods = self.kubectl(&["get", "pods", "--selector", &selector, "--output", "name"])?;
        Ok(pods.lines().map(|pod| pod.trim_start_matches("pod/").to_owned()).collect())
    }

    /// Returns the names of the pods of a pool of workers.
    pub(super) fn pods_of_pool(&self, pool: &str) -> anyhow::Result<Vec<String>> {
        let selector = format!("kahn/pool={pool}");
        let pods = self.kubectl(&["get", "pods", "--selector", &selector, "--output", "name"])?;
        Ok(pods.lines().map(|pod| pod.trim_start_matches("pod/").to_owned()).collect())
    }

    /// Evicts a pod, as a drain of its node does.
    pub(super) fn evict(&self, pod: &str) -> anyhow::Result<()> {
        let eviction = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": { "name": pod, "namespace": NAME },
        });
        let file = self.cluster.write("eviction.json", &eviction.to_string())?;
        let path = format!("/api/v1/namespaces/{NAME}/pods/{pod}/eviction");
        let file = file.display().to_string();
        self.kubectl(&["create", "--raw", &path, "--filename", &file]).map(drop)
    }

    /// Waits until a run has ended that takes longer than other things.
    pub(super) fn wait_for_long_run(&self, run: &str, limit: Duration) -> anyhow::Result<()> {
        let since = Instant::now();
        while since.elapsed() < limit {
            let before = self.get(run)?["tasks"]["succeeded"].as_u64();
            let ended = poll("progress", || {
                self.get(run).is_ok_and(|found| {
                    found["state"] != "active" || found["tasks"]["succeeded"].as_u64() > before
                })
            });
            ended?;
            if self.get(run)?["state"] != "active" {
                return Ok(());
            }
        }
        bail!("run {run} has not ended within {limit:?}")
    }

    /// Waits until all pods of the release are there and ready.
    pub(super) fn wait_until_whole(&self) -> anyhow::Result<()> {
        for object in [
            "statefulset/kahn-coordinator",
            "statefulset/kahn-redis",
            "deployment/kahn-worker-default",
        ] {
            self.kubectl(&["rollout", "status", object, "--timeout=120s"])?;
        }
        Ok(())
    }
}
