//! A coordinator, and where tasks are to be run a worker, in this process: the same code as on a
//! cluster, over memory.

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

/// What the one worker is called.
const WORKER_NAME: &str = "local";
/// How long the worker is given to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// Where the state of a run is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoreKind {
    /// In a file; the run can be resumed and looked at later.
    #[default]
    Embedded,
    /// In memory; nothing is left when the command ends.
    Memory,
}

/// What an acknowledged change survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// The end of the process, however sudden.
    #[default]
    Process,
    /// The end of the machine, too.
    Disk,
}

/// What the worker may use.
#[derive(Clone, Debug)]
pub(crate) struct WorkerSettings {
    /// The section `[worker]` of the configuration; name and directory are set here.
    pub config: kahn_worker::Config,
    /// The environment of this process, of which tasks see what is allowed.
    pub environment: Vec<(OsString, OsString)>,
}

/// A cluster in this process.
#[derive(Debug)]
pub(crate) struct Cluster {
    coordinator: Coordinator,
    connector: LocalConnector,
    worker: Option<Worker>,
    /// Speaks to it.
    pub client: Client,
}

impl Cluster {
    /// Starts a coordinator on the state in `dir`, without any worker: to look at what is there.
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

    /// Adds the worker, which keeps what it needs in `dir`. It bears any pressure of processors and
    /// disks: what it did not take, no other would, and nothing is killed for it.
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

    /// What the worker has for tasks, once there is one.
    pub(crate) fn offer(&self) -> Option<&Offer> {
        self.worker.as_ref().map(Worker::offer)
    }

    /// Returns when the coordinator has ended by itself, which it does only when its store fails.
    pub(crate) async fn ended(&mut self) {
        self.coordinator.ended().await;
    }

    /// Ends both in good order. What the worker still holds is given up.
    pub(crate) async fn stop(self) {
        if let Some(worker) = self.worker {
            worker.drain().await;
            // A worker that takes longer is dropped.
            drop(tokio::time::timeout(GOODBYE, worker.finished()).await);
        }
        self.coordinator.stop().await;
    }
}
