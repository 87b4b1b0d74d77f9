//! What an operator may choose about a worker: the section `[worker]` of `kahn.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kahn_model::{InvalidName, InvalidResources, Resource, Resources, WorkerId};
use kahn_runtime::health::HealthSettings;
use kahn_runtime::human_duration;
use kahn_runtime::secret::Secret;
use serde::{Deserialize, Serialize};

use kahn_executor::secrets::{InvalidSecret, SecretSource};
use kahn_executor_function::FunctionSettings;
use kahn_executor_process::{LimitSettings, PythonSettings};

use crate::pressure::PressureSettings;

/// What an operator may choose about a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The URL of the coordinator.
    pub coordinator: String,
    /// What the worker shows the coordinator; read from `token_file` when not given.
    pub token: Option<Secret>,
    /// Where the workers' token is; `worker.token` in the data directory when not given.
    pub token_file: Option<PathBuf>,
    /// What it calls itself, stable over restarts; the name of the host when not given.
    pub name: Option<String>,
    /// What its attempts may hold together, as `cpu=2,memory=4Gi`; all of the machine when not
    /// given.
    pub capacity: Option<String>,
    /// What it says of itself, for tasks to ask for.
    pub labels: BTreeMap<String, String>,
    /// Most leases that it holds at one time, those that wait for room included.
    pub leases_max: u32,
    /// Where its spools and scratch directories are.
    pub data_dir: PathBuf,
    /// Time between two signs of life.
    #[serde(with = "human_duration")]
    pub heartbeat_period: Duration,
    /// Between SIGTERM and SIGKILL, for tasks that do not say.
    #[serde(with = "human_duration")]
    pub grace: Duration,
    /// Bytes of output kept of one attempt.
    pub log_bytes: u64,
    /// How fast an attempt may print for long, in bytes per second; it waits when it is faster.
    pub log_rate: u64,
    /// Names of its own environment variables that tasks may see.
    pub environment: Vec<String>,
    /// What tasks may ask for by name as a secret, and where it is. There is none unless listed.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Where files with secrets are while their attempt runs, closed to other users; in memory
    /// (`/dev/shm`) where there is such a place, and else in the data directory, when not given.
    /// Whatever is there is removed.
    pub secrets_dir: Option<PathBuf>,
    /// What holds attempts to what they asked for.
    pub limits: LimitSettings,
    /// About functions of the program that the worker is part of.
    pub functions: FunctionSettings,
    /// About containers.
    #[cfg(feature = "container")]
    pub container: kahn_executor_container::ContainerSettings,
    /// About requests over HTTP.
    #[cfg(feature = "http")]
    pub http: kahn_executor_http::HttpSettings,
    /// About functions of Python.
    pub python: PythonSettings,
    /// When it accepts less than its capacity.
    pub pressure: PressureSettings,
    /// Where health and metrics are served.
    pub health: HealthSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            coordinator: "http://127.0.0.1:7400".into(),
            token: None,
            token_file: None,
            name: None,
            capacity: None,
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
            #[cfg(feature = "http")]
            http: kahn_executor_http::HttpSettings::default(),
            python: PythonSettings::default(),
            pressure: PressureSettings::default(),
            health: HealthSettings::on_loopback(7402),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// It cannot be called that.
    #[error("worker.name: {0}")]
    Name(#[from] InvalidName),
    /// The capacity is not a list of amounts.
    #[error("worker.capacity: {0}")]
    Capacity(#[from] InvalidResources),
    /// A secret cannot be defined.
    #[error(transparent)]
    Secret(#[from] InvalidSecret),
    /// The coordinator cannot be there.
    #[error("worker.coordinator: `{url}` is not an address: {reason}")]
    Coordinator {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The pressure to be borne makes no sense.
    #[error("worker.pressure.{field}: {reason}")]
    Pressure {
        /// Which value.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The machine does not say what it is.
    #[error("{what} of this machine is not known: {reason}; set worker.{what}")]
    Machine {
        /// What is not known.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

impl Config {
    /// What the worker calls itself.
    ///
    /// # Errors
    ///
    /// When that is not a name.
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

    /// What its attempts may hold together.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or the machine does not say what it has.
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

    /// The memory that its attempts may have together, where that was chosen and is less than the
    /// machine has.
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
