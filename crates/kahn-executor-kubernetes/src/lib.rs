//! Executes `container` with `via: kubernetes`: each attempt is a pod.
//!
//! An attempt is checked against the operator's policy, and becomes a pod whose name is derived from
//! the attempt. One watch tells about all pods of the worker. The output of the pod is copied into
//! the log. The report is returned only after Kubernetes has confirmed that nothing of the pod runs
//! any more.
//!
//! Pods survive the death of their worker. When the worker starts again with the same data directory,
//! it continues with the pods of the attempts that it held, and never creates one again. It removes
//! its pods that belong to no attempt. If the worker itself is a pod, Kubernetes removes the pods
//! that it owns with it.

mod attempt;
mod logs;
mod names;
mod outputs;
mod plan;
mod policy;
mod requests;
mod secret;
mod settings;
mod state;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kahn_executor::failure::worker_fault;
use kahn_executor::{Assignment, Control, Executor, Report};
use kahn_model::{ActionKind, WorkerId};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::task::JoinHandle;

use attempt::Host;
use plan::Owner;
use requests::Requests;
use watch::Pods;

pub use settings::{Allowed, KubernetesSettings};

/// Why pods cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Only one of the two settings is there.
    #[error("of owner_name and owner_uid, only one is set; they belong together")]
    IncompleteOwner,
    /// The kubeconfig file cannot be used.
    #[error("{path}: {reason}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The error message.
        reason: String,
    },
    /// The worker has no service account.
    #[error(
        "this worker is no pod with a service account ({0}); name a kubeconfig file in \
         worker.kubernetes.kubeconfig"
    )]
    NotInCluster(String),
    /// The client cannot be made.
    #[error("cannot connect to Kubernetes: {0}")]
    Client(String),
    /// The directory cannot be used.
    #[error("cannot prepare {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The OS error.
        source: std::io::Error,
    },
}

/// Executes pods. Must be opened and used in the same Tokio runtime.
#[derive(Debug)]
pub struct KubernetesExecutor {
    host: Arc<Host>,
    watching: JoinHandle<()>,
}

impl KubernetesExecutor {
    /// Opens an executor for pods of `worker`, which keeps in `dir` what it needs after a restart.
    /// `grace` is that of tasks that do not set one. Reads files, but does not connect yet.
    ///
    /// # Errors
    ///
    /// Returns [`OpenError`] if the settings are invalid or a file cannot be used.
    pub fn open(
        settings: KubernetesSettings,
        worker: &WorkerId,
        dir: &Path,
        grace: Duration,
    ) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Directory { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(unusable)?;
        let labels = names::of_worker(worker);
        let selector = names::selector(&labels);
        let owner = Owner { labels, reference: owner(&settings)?, grace };
        let config = config(&settings)?;
        let namespace = settings.namespace.clone().unwrap_or(config.default_namespace.clone());
        let client =
            Client::try_from(config).map_err(|error| OpenError::Client(error.to_string()))?;
        let api = Api::namespaced(client.clone(), &namespace);
        let pods = Pods::default();
        let watching = tokio::spawn(pods.clone().watch(api.clone(), selector));
        let host = Host {
            settings,
            owner,
            requests: Requests::new(api.clone()),
            secrets: Api::namespaced(client, &namespace),
            api,
            pods,
            dir: dir.to_owned(),
        };
        Ok(Self { host: Arc::new(host), watching })
    }
}

impl Drop for KubernetesExecutor {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

fn owner(settings: &KubernetesSettings) -> Result<Option<OwnerReference>, OpenError> {
    match (&settings.owner_name, &settings.owner_uid) {
        (Some(name), Some(uid)) => Ok(Some(OwnerReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: name.clone(),
            uid: uid.clone(),
            ..OwnerReference::default()
        })),
        (None, None) => Ok(None),
        _ => Err(OpenError::IncompleteOwner),
    }
}

fn config(settings: &KubernetesSettings) -> Result<Config, OpenError> {
    match &settings.kubeconfig {
        None => Config::incluster().map_err(|error| OpenError::NotInCluster(error.to_string())),
        Some(path) => from_file(path),
    }
}

/// Reads a kubeconfig file. Runs on a thread of its own, since it may ask a program for a token.
fn from_file(path: &Path) -> Result<Config, OpenError> {
    let failed = |reason: String| OpenError::Kubeconfig { path: path.to_owned(), reason };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| failed(error.to_string()))?;
    let options = KubeConfigOptions::default();
    let read = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &options);
        runtime.block_on(config).map_err(|error| error.to_string())
    };
    let read = std::thread::scope(|scope| scope.spawn(read).join());
    read.unwrap_or_else(|_| Err("it cannot be read".to_owned())).map_err(failed)
}

#[async_trait]
impl Executor for KubernetesExecutor {
    fn kind(&self) -> ActionKind {
        ActionKind::Kubernetes
    }

    fn outlives_worker(&self) -> bool {
        true
    }

    /// See the trait. Dropping the returned future leaves the pod, with which another start of the
    /// worker continues.
    async fn run(&self, assignment: Assignment, control: Control) -> Report {
        let host = Arc::clone(&self.host);
        let logs = Arc::clone(&assignment.logs);
        let carried_out = AbortOnDrop(tokio::spawn(host.carry_out(assignment, control)));
        let report = carried_out.ended().await;
        logs.seal();
        report
    }
}

/// A task that is aborted when this is dropped.
struct AbortOnDrop(JoinHandle<Report>);

impl AbortOnDrop {
    async fn ended(mut self) -> Report {
        (&mut self.0).await.unwrap_or_else(|error| {
            Report::not_run(worker_fault(&format!("worker could not finish the attempt: {error}")))
        })
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
