//! The worker put together: core, executors, spools, connection.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use kahn_model::{ActionKind, BootId};
use kahn_runtime::health::Readiness;
use kahn_runtime::metrics::Metrics;
use kahn_runtime::token::Token;
use kahn_worker_core::{Settings, WorkerCore};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tracing::warn;

use crate::config::{Config, InvalidConfig};
use crate::driver::{AttemptParts, Driver, Input, left_behind};
use crate::executor::{
    BuiltinExecutor, Executor, OpenError, ProcessExecutor, ProcessSettings, allowed_environment,
};
use crate::logs::LogDir;
use crate::session::{Link, keep_open};
use crate::shipping::Shipping;
use crate::spool::{Durability, Spool};
use crate::wire::Identity;

/// Inputs that may wait for the driver; beyond that whoever sends waits.
const INBOX_MAX: usize = 8192;

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A value of its configuration cannot be used.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// Processes cannot be run.
    #[error(transparent)]
    Executor(#[from] OpenError),
    /// A directory cannot be used.
    #[error("{path}: {source}")]
    Directory {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
}

/// What a worker shares with the rest of its process.
#[derive(Clone, Debug)]
pub struct Services {
    /// Where it counts.
    pub metrics: Metrics,
    /// Where it says whether it is ready.
    pub readiness: Readiness,
    /// The environment of the process, of which tasks see what is allowed.
    pub environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
}

/// A running worker. Dropping it ends its session at once; its processes are ended by whoever
/// starts next in the same data directory.
#[derive(Debug)]
pub struct Worker {
    inbox: mpsc::Sender<Input>,
    driver: JoinHandle<()>,
    session: JoinHandle<()>,
}

impl Worker {
    /// Reads what an earlier start left behind, and attaches to the coordinator behind `channel`.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what is in the way. That the coordinator cannot be reached is not in the
    /// way: the worker keeps trying.
    pub fn start(
        config: Config,
        channel: Channel,
        token: Token,
        services: Services,
    ) -> Result<Self, StartError> {
        if let Err(error) = crate::platform::shield_memory() {
            warn!(%error, "tasks of the same user could read this process's memory");
        }
        let at = |name: &str| config.data_dir.join(name);
        let failed = |path: PathBuf| move |source| StartError::Directory { path, source };
        let spool =
            Spool::open(&at("results"), Durability::Process).map_err(failed(at("results")))?;
        let logs = LogDir::open(&at("output"), config.log_bytes).map_err(failed(at("output")))?;
        let executors = executors(&config, services.environment)?;
        let identity = Identity {
            worker: config.worker_id()?,
            boot: boot()?,
            capacity: config.resources()?,
            labels: config.labels.clone(),
            executors: executors.keys().copied().collect(),
            leases_max: config.leases_max,
        };
        let settings = Settings {
            capacity: identity.capacity.clone(),
            heartbeat_period: config.heartbeat_period,
            ..Settings::default()
        };
        let core = WorkerCore::new(settings, left_behind(&spool));
        let (inbox, inputs) = mpsc::channel(INBOX_MAX);
        let link = Link { channel, token };
        let shipping = Shipping::start(link.clone(), logs.clone());
        let parts = AttemptParts { executors, logs, shipping, inbox: inbox.clone() };
        let driver = tokio::spawn(Driver::new(core, identity, inputs, parts, spool).run());
        let session = tokio::spawn(keep_open(link, inbox.clone()));
        services.readiness.set("worker", Ok(()));
        Ok(Self { inbox, driver, session })
    }

    /// Lets it finish what it holds, take nothing new, and end.
    pub async fn drain(&self) {
        // If it has ended already there is nothing to drain.
        drop(self.inbox.send(Input::Drain).await);
    }

    /// Waits until it has drained.
    pub async fn finished(mut self) {
        // Its end is all that is waited for, however it came about.
        drop((&mut self.driver).await);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.driver.abort();
        self.session.abort();
    }
}

fn executors(
    config: &Config,
    environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
) -> Result<BTreeMap<ActionKind, Arc<dyn Executor>>, StartError> {
    let process = ProcessExecutor::open(ProcessSettings {
        scratch_dir: config.data_dir.join("scratch"),
        env: allowed_environment(&config.environment, environment),
        grace: config.grace,
    })?;
    let all: [Arc<dyn Executor>; 2] = [Arc::new(process), Arc::new(BuiltinExecutor)];
    Ok(all.into_iter().map(|executor| (executor.kind(), executor)).collect())
}

/// A number that no other start of a worker has.
fn boot() -> Result<BootId, StartError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| StartError::Random(error.to_string()))?;
    Ok(BootId(u64::from_le_bytes(bytes)))
}
