//! A coordinator in this process, and a worker if tasks are to be run. Uses the same code as a
//! cluster, with an in-memory transport.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use kahn_client::Client;
use kahn_coordinator::{Coordinator, EmbeddedDurability, Listener, LocalConnector, StoreConfig};
use kahn_runtime::health::Readiness;
use kahn_runtime::metrics::Metrics;
use kahn_runtime::secret::Secret;
use kahn_runtime::telemetry::Traces;
use kahn_worker::{Offer, PressureSettings, Worker};

use crate::exit::Failure;

/// The name of the worker.
const WORKER_NAME: &str = "local";
/// Time for a graceful stop of the worker.
const GOODBYE: Duration = Duration::from_secs(5);

/// Where the state of a run is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoreKind {
    /// In a file; the run can be resumed and inspected later.
    #[default]
    Embedded,
    /// In memory; the state is lost when the command ends.
    Memory,
}

/// The kind of crash that an acknowledged change survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// A crash of the process.
    #[default]
    Process,
    /// A crash of the process or of the host.
    Disk,
}

/// The settings of the worker.
#[derive(Clone, Debug)]
pub(crate) struct WorkerSettings {
    /// The section `[worker]` of the configuration; name and directory are overridden.
    pub config: kahn_worker::Config,
    /// The environment of this process. Only allowed variables are passed to tasks.
    pub environment: Vec<(OsString, OsString)>,
}

/// A cluster in this process.
#[derive(Debug)]
pub(crate) struct Cluster {
    coordinator: Coordinator,
    connector: LocalConnector,
    worker: Option<Worker>,
    /// The client of the coordinator.
    pub client: Client,
}

impl Cluster {
    /// Starts a coordinator on the state in `dir`, without a worker. Suffices to inspect runs.
    pub(crate) async fn open(
        dir: &Path,
        store: StoreKind,
        durability: Durability,
        traces: Traces,
    ) -> Result<Self, Failure> {
        let url = match store {
            StoreKind::Embedded => "embedded",
            StoreKind::Memory => "memory",
        };
        let durability = match durability {
            Durability::Process => EmbeddedDurability::Process,
            Durability::Disk => EmbeddedDurability::Disk,
        };
        let store =
            StoreConfig { url: Some(Secret::new(url)), durability, ..StoreConfig::default() };
        let config = kahn_coordinator::Config {
            data_dir: dir.to_owned(),
            store,
            // No other worker comes: what this one cannot run fails as soon as it is ready.
            infeasible_grace: Duration::ZERO,
            ..kahn_coordinator::Config::default()
        };
        let (connector, listener) = Listener::local();
        let services = kahn_coordinator::Services {
            metrics: Metrics::new(),
            readiness: Readiness::new(),
            traces,
        };
        let coordinator = Coordinator::start(config, listener, services)
            .await
            .map_err(|error| Failure::refused(error.to_string()))?;
        let token = coordinator.client_token().expose().to_owned();
        let client = Client::new(connector.channel(), Some(&token))?;
        Ok(Self { coordinator, connector, worker: None, client })
    }

    /// Adds the worker, with `dir` as its data directory. It ignores CPU and disk pressure: there
    /// is no other worker to take the tasks, and they are not killed because of it.
    pub(crate) fn add_worker(&mut self, dir: &Path, with: WorkerSettings) -> Result<(), Failure> {
        let config = kahn_worker::Config {
            name: Some(WORKER_NAME.to_owned()),
            data_dir: dir.join("worker"),
            pressure: PressureSettings { cpu: 0, io: 0, ..with.config.pressure },
            ..with.config
        };
        let services = kahn_worker::Services {
            metrics: Metrics::new(),
            readiness: Readiness::new(),
            environment: with.environment,
        };
        let token = self.coordinator.worker_token().clone();
        let worker = Worker::builder(config)
            .start(self.connector.channel(), token, services)
            .map_err(|error| Failure::bad_input(error.to_string()))?;
        self.worker = Some(worker);
        Ok(())
    }

    /// Returns what the worker offers to tasks, once there is one.
    pub(crate) fn offer(&self) -> Option<&Offer> {
        self.worker.as_ref().map(Worker::offer)
    }

    /// Waits until the coordinator ends by itself, which only happens if its store fails.
    pub(crate) async fn ended(&mut self) {
        self.coordinator.ended().await;
    }

    /// Stops both gracefully. Attempts that the worker still holds are aborted.
    pub(crate) async fn stop(self) {
        if let Some(worker) = self.worker {
            worker.drain().await;
            // A worker that takes longer is dropped.
            drop(tokio::time::timeout(GOODBYE, worker.finished()).await);
        }
        self.coordinator.stop().await;
    }
}
