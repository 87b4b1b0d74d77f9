//! What scales by external metrics: KEDA, or Prometheus with its adapter. Only one of them can answer
//! for the external metrics of a cluster.

use std::fs;

use anyhow::Context as _;

use super::commands::poll;
use super::{Image, Kubernetes};

/// Gives pods of a namespace every right, as KEDA and the adapter need many.
const RIGHTS: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: NAMESPACE }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: NAMESPACE }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin }
subjects: [{ kind: ServiceAccount, name: default, namespace: NAMESPACE }]
";

const KEDA: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: keda-operator, namespace: keda }
spec:
  selector: { matchLabels: { app: keda-operator } }
  template:
    metadata: { labels: { app: keda-operator } }
    spec:
      containers:
      - name: operator
        image: kahn.test/keda:1
        imagePullPolicy: Never
        command: [keda-operator, --cert-dir, /certs]
        env:
        - { name: POD_NAMESPACE, value: keda }
        - { name: KEDA_CLUSTER_OBJECT_NAMESPACE, value: keda }
        - { name: WATCH_NAMESPACE, value: '' }
        volumeMounts: [{ name: certs, mountPath: /certs }]
      volumes: [{ name: certs, secret: { secretName: certs } }]
---
apiVersion: v1
kind: Service
metadata: { name: keda-operator, namespace: keda }
spec: { selector: { app: keda-operator }, ports: [{ port: 9666 }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: keda-adapter, namespace: keda }
spec:
  selector: { matchLabels: { app: keda-adapter } }
  template:
    metadata: { labels: { app: keda-adapter } }
    spec:
      containers:
      - name: adapter
        image: kahn.test/keda:1
        imagePullPolicy: Never
        command:
        - keda-adapter
        - --cert-dir=/certs
        - --tls-cert-file=/certs/tls.crt
        - --tls-private-key-file=/certs/tls.key
        - --secure-port=6443
        - --metrics-service-address=keda-operator.keda.svc.cluster.local:9666
        env: [{ name: WATCH_NAMESPACE, value: '' }]
        volumeMounts: [{ name: certs, mountPath: /certs }]
      volumes: [{ name: certs, secret: { secretName: certs } }]
---
apiVersion: v1
kind: Service
metadata: { name: external-metrics, namespace: keda }
spec: { selector: { app: keda-adapter }, ports: [{ port: 443, targetPort: 6443 }] }
";

/// The rule is that of the documentation.
const PROMETHEUS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: config, namespace: metrics }
data:
  prometheus.yml: |
    scrape_configs:
    - job_name: kahn
      scrape_interval: 2s
      authorization: { credentials_file: /token/metrics-token }
      dns_sd_configs: [{ names: [kahn-coordinators.kahn.svc.cluster.local], type: A, port: 7401, refresh_interval: 2s }]
      relabel_configs:
      - { target_label: namespace, replacement: kahn }
      - { target_label: app_kubernetes_io_instance, replacement: kahn }
  adapter.yaml: |
    externalRules:
    - seriesQuery: 'kahn_pool_workers_wanted{namespace!="",pool!=""}'
      resources: { overrides: { namespace: { resource: namespace } } }
      metricsQuery: 'max(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: prometheus, namespace: metrics }
spec:
  selector: { matchLabels: { app: prometheus } }
  template:
    metadata: { labels: { app: prometheus } }
    spec:
      containers:
      - name: prometheus
        image: kahn.test/metrics:1
        imagePullPolicy: Never
        command: [prometheus, --config.file=/config/prometheus.yml, --storage.tsdb.path=/tmp/data]
        volumeMounts: [{ name: config, mountPath: /config }, { name: token, mountPath: /token }]
      volumes:
      - { name: config, configMap: { name: config } }
      - { name: token, secret: { secretName: token } }
---
apiVersion: v1
kind: Service
metadata: { name: prometheus, namespace: metrics }
spec: { selector: { app: prometheus }, ports: [{ port: 9090 }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: adapter, namespace: metrics }
spec:
  selector: { matchLabels: { app: adapter } }
  template:
    metadata: { labels: { app: adapter } }
    spec:
      containers:
      - name: adapter
        image: kahn.test/metrics:1
        imagePullPolicy: Never
        command:
        - prometheus-adapter
        - --cert-dir=/tmp
        - --secure-port=6443
        - --config=/config/adapter.yaml
        - --prometheus-url=http://prometheus.metrics.svc.cluster.local:9090
        - --metrics-relist-interval=5s
        volumeMounts: [{ name: config, mountPath: /config }]
      volumes: [{ name: config, configMap: { name: config } }]
---
apiVersion: v1
kind: Service
metadata: { name: external-metrics, namespace: metrics }
spec: { selector: { app: adapter }, ports: [{ port: 443, targetPort: 6443 }] }
"#;

impl Kubernetes {
    /// Installs KEDA.
    ///
    /// # Errors
    ///
    /// Returns an error that names what did not work.
    pub(crate) fn install_keda(&self) -> anyhow::Result<()> {
        let image = Image::new("kahn.test/keda:1", &["keda-operator"]);
        self.load_programs(image, &["keda-operator", "keda-adapter"])?;
        let crds = self.programs.keda_crds().display().to_string();
        self.kubectl(&["apply", "--server-side", "--filename", &crds])?;
        self.apply(&RIGHTS.replace("NAMESPACE", "keda"))?;
        let file = |name: &str| self.dir.join("pki").join(name).display().to_string();
        let files = [("ca.crt", "ca.crt"), ("tls.crt", "keda.crt"), ("tls.key", "keda.key")];
        let files = files.map(|(key, name)| format!("--from-file={key}={}", file(name)));
        let mut create = vec!["--namespace", "keda", "create", "secret", "generic", "certs"];
        create.extend(files.iter().map(String::as_str));
        self.kubectl(&create)?;
        self.apply(KEDA)?;
        self.serve_external_metrics("keda", &["keda-operator", "keda-adapter"])
    }

    /// Installs Prometheus, which reads the coordinators' metrics with this token, and its adapter.
    ///
    /// # Errors
    ///
    /// Returns an error that names what did not work.
    pub(crate) fn install_prometheus_adapter(&self, token: &str) -> anyhow::Result<()> {
        let image = Image::new("kahn.test/metrics:1", &["prometheus"]);
        self.load_programs(image, &["prometheus", "prometheus-adapter"])?;
        self.apply(&RIGHTS.replace("NAMESPACE", "metrics"))?;
        let literal = format!("--from-literal=metrics-token={token}");
        self.kubectl(&[
            "--namespace",
            "metrics",
            "create",
            "secret",
            "generic",
            "token",
            &literal,
        ])?;
        self.apply(PROMETHEUS)?;
        self.serve_external_metrics("metrics", &["prometheus", "adapter"])
    }

    fn load_programs(&self, image: Image, names: &[&str]) -> anyhow::Result<()> {
        let add = |image: Image, name: &&str| {
            image.with(&self.programs.path(name), &format!("/usr/local/bin/{name}"))
        };
        self.load(&names.iter().fold(image, add))
    }

    /// Waits for these deployments, and lets the Service of a namespace answer for external metrics.
    fn serve_external_metrics(&self, namespace: &str, deployments: &[&str]) -> anyhow::Result<()> {
        for name in deployments {
            let name = format!("deployment/{name}");
            self.kubectl(&["-n", namespace, "rollout", "status", &name, "--timeout=120s"])?;
        }
        self.apply(&format!(
            "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\n\
             metadata: {{ name: v1beta1.external.metrics.k8s.io }}\n\
             spec:\n  group: external.metrics.k8s.io\n  version: v1beta1\n  \
             groupPriorityMinimum: 100\n  versionPriority: 100\n  insecureSkipTLSVerify: true\n  \
             service: {{ name: external-metrics, namespace: {namespace}, port: 443 }}\n"
        ))?;
        let wait =
            ["wait", "--for=condition=Available", "apiservice/v1beta1.external.metrics.k8s.io"];
        poll("external metrics", || self.kubectl(&wait).is_ok())
    }

    /// Returns the log of the autoscaling of a pool, for an error message.
    pub(crate) fn explain_scaling(&self) -> String {
        let queries: [&[&str]; 3] = [
            &["--namespace", "kahn", "describe", "horizontalpodautoscalers,scaledobjects"],
            &["--namespace", "kahn", "logs", "deployment/kahn-autoscaler", "--tail=30"],
            &["--namespace", "kahn", "get", "pods", "--output", "wide"],
        ];
        let answers = queries.map(|query| self.kubectl(query).unwrap_or_else(|e| e.to_string()));
        answers.join("\n")
    }
}

/// Returns an error if the definitions of KEDA's objects are missing.
pub(super) fn check_crds(dir: &std::path::Path) -> anyhow::Result<()> {
    let mut files = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    files.next().map(drop).with_context(|| format!("{} is empty", dir.display()))
}
