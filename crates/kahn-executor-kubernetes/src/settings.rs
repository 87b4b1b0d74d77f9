//! Operator settings for pods: the section `[worker.kubernetes]`.

use std::path::PathBuf;
use std::time::Duration;

use kahn_runtime::human_duration;
use serde::{Deserialize, Serialize};

/// Operator settings for pods.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesSettings {
    /// Whether this worker runs containers as pods. It then carries out nothing else but `sleep` and
    /// `noop`, since its capacity is not that of its host.
    pub enabled: bool,
    /// The kubeconfig file. Default: the service account of the worker's own pod.
    pub kubeconfig: Option<PathBuf>,
    /// The namespace of the pods. Default: that of the worker's own pod, or of the context in the
    /// kubeconfig file.
    pub namespace: Option<String>,
    /// The name of the worker's own pod, which must be in the same namespace. Kubernetes removes the
    /// pods of its attempts with it. Needs `owner_uid`.
    pub owner_name: Option<String>,
    /// The UID of the worker's own pod.
    pub owner_uid: Option<String>,
    /// The default user in containers, as `uid` or `uid:gid`.
    pub user: String,
    /// Whether containers may run as root.
    pub allow_root: bool,
    /// The name of graphics processors among the resources of nodes.
    pub gpu_resource: String,
    /// The maximum size of `/tmp` in bytes.
    pub tmp_bytes: u64,
    /// How long a pod may wait for a node, for its image, or for an object that it mounts, if the
    /// task has no start timeout.
    #[serde(with = "human_duration")]
    pub pending_timeout: Duration,
    /// Whether a pod is given up whose node does not confirm its end within a minute after its grace.
    /// Its processes may still run there. By default the attempt waits for the node.
    pub force_delete: bool,
    /// What tasks may ask for.
    pub allow: Allowed,
}

impl Default for KubernetesSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            kubeconfig: None,
            namespace: None,
            owner_name: None,
            owner_uid: None,
            user: "65532:65532".into(),
            allow_root: false,
            gpu_resource: "nvidia.com/gpu".into(),
            tmp_bytes: 1 << 30,
            pending_timeout: Duration::from_mins(10),
            force_delete: false,
            allow: Allowed::default(),
        }
    }
}

/// What tasks may ask for. Each entry is a name, or the beginning of names followed by `*`. All lists
/// but that of images are empty by default, and so allow nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allowed {
    /// Images.
    pub images: Vec<String>,
    /// Service accounts, whose token the pod then gets.
    pub service_accounts: Vec<String>,
    /// Labels of nodes in node selectors.
    pub node_selectors: Vec<String>,
    /// Keys of tolerations; `*` also allows to tolerate every taint.
    pub tolerations: Vec<String>,
    /// Labels of the pod.
    pub labels: Vec<String>,
    /// Annotations of the pod.
    pub annotations: Vec<String>,
    /// Persistent volume claims.
    pub claims: Vec<String>,
    /// Config maps.
    pub config_maps: Vec<String>,
    /// Secrets of Kubernetes that are mounted.
    pub secrets: Vec<String>,
    /// Secrets of Kubernetes with which images are pulled.
    pub image_pull_secrets: Vec<String>,
    /// Priority classes.
    pub priority_classes: Vec<String>,
    /// Runtime classes.
    pub runtime_classes: Vec<String>,
}

impl Default for Allowed {
    fn default() -> Self {
        Self {
            images: vec!["*".into()],
            service_accounts: Vec::new(),
            node_selectors: Vec::new(),
            tolerations: Vec::new(),
            labels: Vec::new(),
            annotations: Vec::new(),
            claims: Vec::new(),
            config_maps: Vec::new(),
            secrets: Vec::new(),
            image_pull_secrets: Vec::new(),
            priority_classes: Vec::new(),
            runtime_classes: Vec::new(),
        }
    }
}
