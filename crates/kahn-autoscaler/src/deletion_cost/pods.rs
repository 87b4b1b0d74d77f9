//! The pods of workers.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Config, Error};
use serde_json::json;

const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const TIMEOUT: Duration = Duration::from_secs(10);

/// This process has no service account.
#[derive(Debug, thiserror::Error)]
#[error(
    "autoscaler.deletion_cost.enabled needs a pod of Kubernetes with a service account that may patch \
     pods: {0}"
)]
pub struct NotInCluster(String);

/// The pods of a namespace.
#[derive(Debug)]
pub(crate) struct Pods(Api<Pod>);

impl Pods {
    /// Uses the service account of this pod. Does not connect yet.
    pub(crate) fn of_cluster(namespace: Option<&str>) -> Result<Self, NotInCluster> {
        let config = Config::incluster().map_err(|error| NotInCluster(error.to_string()))?;
        let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
        let client = Client::try_from(config).map_err(|error| NotInCluster(error.to_string()))?;
        Ok(Self(Api::namespaced(client, &namespace)))
    }

    /// Sets the cost of a worker's pod. Does nothing if there is no such pod.
    pub(crate) async fn set_cost(&self, name: &str, cost: u32) -> Result<(), Error> {
        let patch =
            Patch::Merge(json!({ "metadata": { "annotations": { COST: cost.to_string() } } }));
        let params = PatchParams::default();
        let patched = self.0.patch_metadata(name, &params, &patch);
        match tokio::time::timeout(TIMEOUT, patched).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Service("no answer within 10 s".into())),
        }
    }
}
