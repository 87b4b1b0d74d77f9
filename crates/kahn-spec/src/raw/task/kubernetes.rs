//! What a container has that runs as a pod of Kubernetes.

use schemars::JsonSchema;

use crate::lenient::Scalar;
use crate::raw::record::record;
use crate::raw::{Entries, OneOrMany};
use crate::span::Spanned;

/// What runs a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawVia {
    /// The container engine on the worker's host, Docker or Podman.
    Engine,
    /// Kubernetes, as a pod.
    Kubernetes,
}

record! {
    /// A taint of nodes that a pod tolerates.
    RawToleration {
        /// The key of the taint. `"*"` stands for all taints.
        key: Spanned<Scalar>,
        /// The value of the taint. Default: any.
        value: Spanned<Scalar>,
        /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`. Default: any.
        effect: Spanned<Scalar>,
    }
}

record! {
    /// A volume of a pod, from exactly one source. The worker's configuration restricts which.
    RawPodVolume {
        /// A persistent volume claim.
        claim: Spanned<Scalar>,
        /// A config map.
        config_map: Spanned<Scalar>,
        /// A secret of Kubernetes.
        secret: Spanned<Scalar>,
        /// A directory that is empty at first, and is removed with the pod.
        empty: bool,
        /// The path in the container.
        target: Spanned<Scalar>,
        /// Whether the container may write to it.
        writable: bool,
    }
}

record! {
    /// What only pods have. The worker's configuration restricts all of it.
    RawKubernetes {
        /// The service account, whose token the pod gets. Default: no token.
        service_account: Spanned<Scalar>,
        /// Labels, with their values, that the node must have.
        node_selector: Entries<Spanned<Scalar>>,
        /// Taints of nodes that are tolerated.
        tolerations: Vec<Spanned<RawToleration>>,
        /// Labels of the pod.
        labels: Entries<Spanned<Scalar>>,
        /// Annotations of the pod.
        annotations: Entries<Spanned<Scalar>>,
        /// Volumes to mount.
        volumes: Vec<Spanned<RawPodVolume>>,
        /// Secrets of Kubernetes with which the image is pulled.
        image_pull_secrets: OneOrMany<Spanned<Scalar>>,
        /// The priority class.
        priority_class: Spanned<Scalar>,
        /// The runtime class.
        runtime_class: Spanned<Scalar>,
    }
}
