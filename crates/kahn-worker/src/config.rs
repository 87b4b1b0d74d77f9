//! The worker's configuration: the section `[worker]` of `kahn.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kahn_model::{
    InvalidName, InvalidResources, Labels, Name, POOL_LABEL, Resource, Resources, WorkerId,
};
use kahn_net::{ClientTls, InvalidAddress, TlsFileError};
use kahn_runtime::health::HealthSettings;
use kahn_runtime::human_duration;
use kahn_runtime::secret::Secret;
use serde::{Deserialize, Serialize};

use kahn_executor::secrets::{InvalidSecret, SecretSettings};
use kahn_executor_function::FunctionSettings;
use kahn_executor_process::{LimitSettings, PythonSettings};

use crate::pressure::PressureSettings;

/// The worker's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The URL of the coordinator, or of several, separated by commas.
    pub coordinator: String,
    /// The files for URLs of coordinators that begin with `https://`.
    pub tls: ClientTls,
    /// The token that the worker presents to the coordinator. Default: read from `token_file`.
    pub token: Option<Secret>,
    /// The file with the workers' token. Default: `worker.token` in the data directory.
    pub token_file: Option<PathBuf>,
    /// The worker's name, stable across restarts. Default: the host name.
    pub name: Option<String>,
    /// The total resources of its running attempts, such as `cpu=2,memory=4Gi`. CPU and memory
    /// default to those of the host.
    pub capacity: Option<String>,
    /// The pool that the worker belongs to; it becomes the label `pool`.
    pub pool: Option<String>,
    /// Labels that tasks can require.
    pub labels: BTreeMap<String, String>,
    /// Maximum number of leases held at a time, including those waiting for resources.
    pub leases_max: u32,
    /// The directory for spools and scratch directories.
    pub data_dir: PathBuf,
    /// Time between two heartbeats.
    #[serde(with = "human_duration")]
    pub heartbeat_period: Duration,
    /// Time between SIGTERM and SIGKILL for tasks that do not set it.
    #[serde(with = "human_duration")]
    pub grace: Duration,
    /// Maximum output kept per attempt, in bytes.
    pub log_bytes: u64,
    /// Sustained output rate per attempt, in bytes per second. A faster attempt is blocked.
    pub log_rate: u64,
    /// Names of the worker's environment variables that are passed to tasks.
    pub environment: Vec<String>,
    /// The secrets that tasks can request by name, with their sources and the namespaces that may
    /// use them. Default: none.
    pub secrets: BTreeMap<String, SecretSettings>,
    /// The directory for secret files while their attempt runs, inaccessible to other users.
    /// Existing contents are removed. Default: in memory (`/dev/shm`) if available, otherwise in
    /// the data directory.
    pub secrets_dir: Option<PathBuf>,
    /// How the requested resources are enforced as limits.
    pub limits: LimitSettings,
    /// Settings for functions registered by the embedding program.
    pub functions: FunctionSettings,
    /// Settings for containers.
    #[cfg(feature = "container")]
    pub container: kahn_executor_container::ContainerSettings,
    /// Settings for pods of Kubernetes.
    #[cfg(feature = "kubernetes")]
    pub kubernetes: kahn_executor_kubernetes::KubernetesSettings,
    /// Settings for HTTP requests.
    #[cfg(feature = "http")]
    pub http: kahn_executor_http::HttpSettings,
    /// Settings for Python functions.
    pub python: PythonSettings,
    /// When the worker accepts less than its capacity.
    pub pressure: PressureSettings,
    /// Settings of the health and metrics server.
    pub health: HealthSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            coordinator: "http://127.0.0.1:7400".into(),
            tls: ClientTls::default(),
            token: None,
            token_file: None,
            name: None,
            capacity: None,
            pool: None,
            labels: BTreeMap::new(),
            leases_max: 4096,
            data_dir: PathBuf::from("kahn-data"),
            heartbeat_period: Duration::from_secs(1),
            grace: Duration::from_secs(10),
            log_bytes: kahn_executor::logs::LOG_BYTES_MAX,
            log_rate: kahn_executor::logs::LOG_RATE,
            environment: kahn_executor::ALLOWED.map(str::to_owned).to_vec(),
            secrets: BTreeMap::new(),
            secrets_dir: None,
            limits: LimitSettings::default(),
            functions: FunctionSettings::default(),
            #[cfg(feature = "container")]
            container: kahn_executor_container::ContainerSettings::default(),
            #[cfg(feature = "kubernetes")]
            kubernetes: kahn_executor_kubernetes::KubernetesSettings::default(),
            #[cfg(feature = "http")]
            http: kahn_executor_http::HttpSettings::default(),
            python: PythonSettings::default(),
            pressure: PressureSettings::default(),
            health: HealthSettings::on_loopback(7402),
        }
    }
}

/// The reason that a configuration is invalid.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// The name is invalid.
    #[error("worker.name: {0}")]
    Name(#[from] InvalidName),
    /// The capacity is not a valid list of resources.
    #[error("worker.capacity: {0}")]
    Capacity(#[from] InvalidResources),
    /// The pool is invalid.
    #[error("worker.pool: {0}")]
    Pool(String),
    /// The definition of a secret is invalid.
    #[error(transparent)]
    Secret(#[from] InvalidSecret),
    /// The URL of the coordinator is invalid.
    #[error("worker.coordinator: {0}")]
    Coordinator(InvalidAddress),
    /// A file for TLS cannot be used.
    #[error("worker.tls: {0}")]
    Tls(#[from] TlsFileError),
    /// A pressure setting is invalid.
    #[error("worker.pressure.{field}: {reason}")]
    Pressure {
        /// The name of the setting.
        field: &'static str,
        /// The reason.
        reason: String,
    },
    /// The CPUs or memory of the host could not be determined.
    #[error("cannot determine the {what} of this host: {reason}; set worker.{what}")]
    Machine {
        /// The setting without a value.
        what: &'static str,
        /// The reason.
        reason: String,
    },
}

impl Config {
    /// Returns the worker's name.
    ///
    /// # Errors
    ///
    /// Fails if the configured name or the host name is not a valid name.
    pub fn worker_id(&self) -> Result<WorkerId, InvalidConfig> {
        let host;
        let name = match &self.name {
            Some(name) => name,
            None => {
                host = sysinfo::System::host_name().unwrap_or_else(|_| "worker".into());
                &host
            }
        };
        Ok(name.parse()?)
    }

    /// Returns the configured labels, that of the pool included.
    ///
    /// # Errors
    ///
    /// Fails if the pool has no valid name, or if the labels name another one.
    pub fn labels(&self) -> Result<Labels, InvalidConfig> {
        let mut labels = self.labels.clone();
        let Some(pool) = &self.pool else { return Ok(labels) };
        let name = Name::new(pool).map_err(|error| InvalidConfig::Pool(error.to_string()))?;
        let previous = labels.insert(POOL_LABEL.to_owned(), name.as_str().to_owned());
        match previous.filter(|previous| previous != pool) {
            Some(other) => Err(InvalidConfig::Pool(format!(
                "it is `{pool}`, but worker.labels.{POOL_LABEL} is `{other}`; remove one of them"
            ))),
            None => Ok(labels),
        }
    }

    /// Returns the worker's capacity.
    ///
    /// # Errors
    ///
    /// Fails if the setting cannot be parsed, or if CPUs or memory of the host are unknown.
    pub fn resources(&self) -> Result<Resources, InvalidConfig> {
        let mut resources = match &self.capacity {
            Some(text) => text.parse()?,
            None => Resources::none(),
        };
        if resources.get(&Resource::Cpu) == 0 {
            resources.set(&Resource::Cpu, cpu_milli()?);
        }
        if resources.get(&Resource::Memory) == 0 {
            resources.set(&Resource::Memory, memory_bytes()?);
        }
        Ok(resources)
    }

    /// Returns the configured memory capacity in bytes if it is less than the memory of the host.
    #[must_use]
    pub fn memory_bound(&self) -> Option<u64> {
        let capacity: Resources = self.capacity.as_ref()?.parse().ok()?;
        let chosen = Some(capacity.get(&Resource::Memory)).filter(|bytes| *bytes > 0)?;
        memory_bytes().is_ok_and(|machine| chosen < machine).then_some(chosen)
    }
}

fn cpu_milli() -> Result<u64, InvalidConfig> {
    let found = std::thread::available_parallelism()
        .map_err(|e| InvalidConfig::Machine { what: "capacity", reason: e.to_string() })?;
    Ok(u64::try_from(found.get()).unwrap_or(u64::MAX).saturating_mul(1000))
}

fn memory_bytes() -> Result<u64, InvalidConfig> {
    let unknown = |reason| InvalidConfig::Machine { what: "capacity", reason };
    let mut system = sysinfo::System::new().map_err(|e| unknown(e.to_string()))?;
    system.refresh_memory();
    Ok(system.total_memory())
}
