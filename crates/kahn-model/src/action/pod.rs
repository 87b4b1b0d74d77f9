//! Pods of Kubernetes.

use super::Container;

/// A container that runs to completion as a pod of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pod {
    /// The container. It has neither mounts nor ports, since these are those of a host.
    pub container: Container,
    /// What only pods have.
    pub options: PodOptions,
}

/// What only pods have. The worker's configuration restricts all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodOptions {
    /// The service account. The pod gets its token. By default there is no token.
    pub service_account: Option<Box<str>>,
    /// Labels, with their values, that the node must have.
    pub node_selector: Vec<(Box<str>, Box<str>)>,
    /// The taints of nodes that are tolerated.
    pub tolerations: Vec<Toleration>,
    /// Labels of the pod.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// Annotations of the pod.
    pub annotations: Vec<(Box<str>, Box<str>)>,
    /// What is mounted into the container.
    pub volumes: Vec<PodVolume>,
    /// Secrets of Kubernetes with which the image is pulled.
    pub image_pull_secrets: Vec<Box<str>>,
    /// The priority class.
    pub priority_class: Option<Box<str>>,
    /// The runtime class.
    pub runtime_class: Option<Box<str>>,
}

/// A taint, or a set of taints, that is tolerated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Toleration {
    /// The key of the taint. Empty for all taints.
    pub key: Box<str>,
    /// The value of the taint. Default: any.
    pub value: Option<Box<str>>,
    /// The effect of the taint. Default: any.
    pub effect: Option<TaintEffect>,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaintEffect {
    /// They are not placed on the node.
    NoSchedule,
    /// They are placed on the node only if there is no other.
    PreferNoSchedule,
    /// They are also removed from the node.
    NoExecute,
}

impl TaintEffect {
    /// All effects.
    pub const ALL: [Self; 3] = [Self::NoSchedule, Self::PreferNoSchedule, Self::NoExecute];

    /// Returns the name used in the DAG file, which is that of Kubernetes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

/// A volume of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodVolume {
    /// Where its content comes from.
    pub source: VolumeSource,
    /// The path in the container.
    pub target: Box<str>,
    /// Whether the container may write to it.
    pub is_writable: bool,
}

/// Where the content of a volume comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VolumeSource {
    /// The persistent volume claim with this name.
    Claim(Box<str>),
    /// The config map with this name.
    ConfigMap(Box<str>),
    /// The secret of Kubernetes with this name.
    Secret(Box<str>),
    /// Nowhere: an empty directory that is removed with the pod.
    Empty,
}

impl VolumeSource {
    /// Returns the name of the persistent volume claim, if it is one.
    #[must_use]
    pub fn as_claim(&self) -> Option<&str> {
        if let Self::Claim(name) = self { Some(name) } else { None }
    }

    /// Returns the name of the config map, if it is one.
    #[must_use]
    pub fn as_config_map(&self) -> Option<&str> {
        if let Self::ConfigMap(name) = self { Some(name) } else { None }
    }

    /// Returns the name of the secret of Kubernetes, if it is one.
    #[must_use]
    pub fn as_secret(&self) -> Option<&str> {
        if let Self::Secret(name) = self { Some(name) } else { None }
    }
}
