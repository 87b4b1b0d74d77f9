//! Assembles the worker: core, executors, spools and connection.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kahn_executor::{BuiltinExecutor, Executor, allowed_environment};
use kahn_executor_function::{FunctionContext, FunctionExecutor, Functions};
use kahn_executor_process::{
    LimitStatement, Limits, OpenError, ProcessExecutor, ProcessSettings, PythonExecutor,
};
use kahn_model::{ActionKind, BootId, FunctionCall, Labels, Resources};
use kahn_runtime::health::Readiness;
use kahn_runtime::metrics::Metrics;
use kahn_runtime::token::Token;
use kahn_worker_core::{Settings, WorkerCore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::config::{Config, InvalidConfig};
use crate::driver::{AttemptParts, Driver, Input, Lasting, left_behind};
use crate::link::{Coordinators, Link};
use crate::pressure::watch;
use crate::session::keep_open;
use crate::shipping::Shipping;
use crate::spool::{Durability, Spool};
use crate::stats::Stats;
use crate::wire::Identity;
use kahn_executor::logs::LogDir;
use kahn_executor::secrets::Secrets;

/// Maximum inputs buffered for the driver; senders wait beyond that.
const INBOX_MAX: usize = 8192;

/// How long a drained worker waits for its remaining output to be received.
const LAST_OUTPUT_WAIT: Duration = Duration::from_secs(5);

/// The reason that a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A configuration value is invalid.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The process executor could not be opened.
    #[error(transparent)]
    Executor(#[from] OpenError),
    /// The executor for pods could not be opened.
    #[cfg(feature = "kubernetes")]
    #[error("worker.kubernetes: {0}")]
    Kubernetes(#[from] kahn_executor_kubernetes::OpenError),
    /// A directory is not usable.
    #[error("{path}: {source}")]
    Directory {
        /// The path of the directory.
        path: PathBuf,
        /// The OS error.
        source: std::io::Error,
    },
    /// Threads could not be created.
    #[error("no threads for {what}: {source}")]
    Threads {
        /// Their purpose.
        what: &'static str,
        /// The OS error.
        source: std::io::Error,
    },
    /// The system's random number generator failed.
    #[error("no random numbers: {0}")]
    Random(String),
}

/// Components that the worker shares with the rest of its process.
#[derive(Clone, Debug)]
pub struct Services {
    /// The registry of its metrics.
    pub metrics: Metrics,
    /// The readiness that it updates.
    pub readiness: Readiness,
    /// The environment of the process. Only allowed variables are passed to tasks.
    pub environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
}

/// Builds a worker from its configuration and the functions that tasks can call.
///
/// ```no_run
/// # use kahn_worker::{Config, Services, Worker};
/// # fn start(channel: tonic::transport::Channel, token: kahn_runtime::token::Token,
/// #          services: Services) -> Result<(), Box<dyn std::error::Error>> {
/// let worker = Worker::builder(Config::default())
///     .function("double", async |_context, n: i64| Ok::<_, String>(2 * n))
///     .blocking_function("checksum", |context, path: String| {
///         context.log(format!("reading {path}"));
///         std::fs::read(&path).map(|bytes| bytes.len())
///     })
///     .start(channel, token, services)?;
/// # drop(worker);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WorkerBuilder {
    config: Config,
    functions: Functions,
}

impl WorkerBuilder {
    /// Registers an asynchronous function, which tasks call as `function: name`. Replaces any
    /// function registered under the same name. Input and output are passed as JSON.
    ///
    /// When the attempt is cancelled, the context reports it, and the future is dropped after the
    /// grace period.
    #[must_use]
    pub fn function<I, O, E, F>(
        mut self,
        name: impl Into<String>,
        function: impl Fn(FunctionContext, I) -> F + Send + Sync + 'static,
    ) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + 'static,
        E: Display + 'static,
        F: Future<Output = Result<O, E>> + Send + 'static,
    {
        self.functions.add(name.into(), function);
        self
    }

    /// Registers a blocking function, which runs on a thread pool. It cannot be stopped from
    /// outside: a long-running one should check [`FunctionContext::is_cancelled`].
    #[must_use]
    pub fn blocking_function<I, O, E>(
        mut self,
        name: impl Into<String>,
        function: impl Fn(FunctionContext, I) -> Result<O, E> + Send + Sync + 'static,
    ) -> Self
    where
        I: DeserializeOwned + 'static,
        O: Serialize + 'static,
        E: Display + 'static,
    {
        self.functions.add_blocking(name.into(), function);
        self
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Starts the worker: reads the results and output that a previous process left behind, and
    /// attaches to the leader of the coordinators.
    ///
    /// # Errors
    ///
    /// Returns a [`StartError`] if the worker cannot start. An unreachable coordinator is not an
    /// error: the worker keeps trying to connect.
    pub fn start(
        self,
        coordinators: impl Into<Coordinators>,
        token: Token,
        services: Services,
    ) -> Result<Worker, StartError> {
        Worker::assemble(self, coordinators.into(), token, services)
    }
}

/// A running worker. Dropping it ends its session immediately. The next worker that starts in the
/// same data directory kills its remaining processes.
#[derive(Debug)]
pub struct Worker {
    inbox: mpsc::Sender<Input>,
    driver: JoinHandle<()>,
    session: JoinHandle<()>,
    shipping: Shipping,
    streaming: JoinHandle<()>,
    pressure: Option<JoinHandle<()>>,
    offer: Offer,
}

/// What a worker has for tasks; it decides which tasks the worker can ever run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What its tasks may use together.
    pub capacity: Resources,
    /// Its labels, those for functions and secrets included.
    pub labels: Labels,
    /// The kinds of actions that it carries out.
    pub executors: Vec<ActionKind>,
}

impl Worker {
    /// Creates a builder.
    #[must_use]
    pub fn builder(config: Config) -> WorkerBuilder {
        WorkerBuilder { config, functions: Functions::default() }
    }

    fn assemble(
        builder: WorkerBuilder,
        coordinators: Coordinators,
        token: Token,
        services: Services,
    ) -> Result<Self, StartError> {
        let WorkerBuilder { config, functions } = builder;
        if let Err(error) = kahn_platform::shield_memory() {
            warn!(%error, "tasks of the same user could read this process's memory");
        }
        let at = |name: &str| config.data_dir.join(name);
        let failed = |path: PathBuf| move |source| StartError::Directory { path, source };
        let spool =
            Spool::open(&at("results"), Durability::Process).map_err(failed(at("results")))?;
        let logs = LogDir::open(&at("output"), config.log_bytes).map_err(failed(at("output")))?;
        let logs = logs.with_rate(config.log_rate);
        let worker = config.worker_id()?;
        let (capacity, bound) = (config.resources()?, config.memory_bound());
        let limits = Limits::open(config.limits, &worker, &capacity, bound, &at("groups"));
        info!(limits = %limits.statement(), "limits of attempts");
        let mut labels = labels(config.labels()?, &functions, &limits);
        let environment = services.environment;
        let executors = executors(&config, functions, environment.clone(), &limits)?;
        let kinds = executors.values().filter(|executor| executor.outlives_worker());
        let lasting = Lasting::open(&at("leases"), kinds.map(|executor| executor.kind()).collect())
            .map_err(failed(at("leases")))?;
        let left_in_logs = logs
            .left_behind(|attempt, token| lasting.has(attempt, token))
            .map_err(failed(at("output")))?;
        // After the executors, which ensure that no other worker uses the directory.
        let (dir, data_dir) = (config.secrets_dir.as_deref(), &config.data_dir);
        let secrets = Secrets::open(&config.secrets, &environment, dir, data_dir)
            .map_err(InvalidConfig::from)?;
        labels.extend(secrets.labels());
        let identity = Identity {
            worker,
            boot: boot()?,
            capacity,
            labels,
            executors: executors.keys().copied().collect(),
            leases_max: config.leases_max,
        };
        let offer = Offer {
            capacity: identity.capacity.clone(),
            labels: identity.labels.clone(),
            executors: identity.executors.clone(),
        };
        let settings = Settings {
            capacity: identity.capacity.clone(),
            heartbeat_period: config.heartbeat_period,
            pressure: config.pressure.limits()?,
            ..Settings::default()
        };
        let core = WorkerCore::new(settings, left_behind(&spool));
        let (inbox, inputs) = mpsc::channel(INBOX_MAX);
        let link = Link::new(coordinators, token);
        let stats = Stats::new(&services.metrics);
        let sent = stats.output.clone();
        let (shipping, streaming) = Shipping::start(link.clone(), logs.clone(), sent);
        shipping.ship_left_behind(left_in_logs);
        let parts = AttemptParts {
            executors,
            secrets: Arc::new(secrets),
            logs,
            shipping: shipping.clone(),
            inbox: inbox.clone(),
        };
        let driver = Driver::new(core, identity, inputs, parts, spool, lasting, stats);
        let driver = tokio::spawn(driver.run());
        // Pods do not run on this host, whose pressure says nothing about their room.
        let is_on_host = !attempts_are_elsewhere(&config);
        let pressure = is_on_host.then(|| watch(&config.pressure, inbox.clone())).flatten();
        let session = tokio::spawn(keep_open(link, inbox.clone()));
        services.readiness.set("worker", Ok(()));
        Ok(Self { inbox, driver, session, shipping, streaming, pressure, offer })
    }

    /// What it has for tasks.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Requests a drain: the worker accepts no new leases and ends after the held ones.
    pub async fn drain(&self) {
        // Fails only if the driver has ended, and then there is nothing to drain.
        drop(self.inbox.send(Input::Drain).await);
    }

    /// Returns a probe of its progress.
    #[must_use]
    pub fn probe(&self) -> Probe {
        Probe(self.inbox.clone())
    }

    /// Waits until the worker has drained.
    pub async fn finished(mut self) {
        // Whether the driver returned, panicked or was aborted does not matter here.
        drop((&mut self.driver).await);
        // Remaining output is shipped by the next worker that starts in the same directory.
        drop(tokio::time::timeout(LAST_OUTPUT_WAIT, self.shipping.idle()).await);
    }
}

/// Finds out whether a worker makes progress.
#[derive(Clone, Debug)]
pub struct Probe(mpsc::Sender<Input>);

impl Probe {
    /// Completes when the worker has handled what came before, or has ended.
    pub async fn answered(&self) {
        let (answer, answered) = oneshot::channel();
        if self.0.send(Input::Probe(answer)).await.is_ok() {
            // An error means that the worker has ended.
            drop(answered.await);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.driver.abort();
        self.session.abort();
        self.streaming.abort();
        if let Some(pressure) = &self.pressure {
            pressure.abort();
        }
    }
}

/// Returns the worker's labels: the configured ones, its limits and one per function. Tasks that
/// call a function require the label of that function.
fn labels(mut labels: Labels, functions: &Functions, limits: &Limits) -> Labels {
    labels.insert(LimitStatement::LABEL.to_owned(), limits.statement().label().to_owned());
    labels.extend(functions.names().map(|name| (FunctionCall::label_of(name), String::new())));
    labels
}

fn executors(
    config: &Config,
    functions: Functions,
    environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    limits: &Arc<Limits>,
) -> Result<BTreeMap<ActionKind, Arc<dyn Executor>>, StartError> {
    let in_dir = |name| ProcessSettings {
        scratch_dir: config.data_dir.join(name),
        env: allowed_environment(&config.environment, environment.iter().cloned()),
        grace: config.grace,
        limits: Arc::clone(limits),
    };
    let process = ProcessExecutor::open(in_dir("scratch"))?;
    #[cfg(feature = "kubernetes")]
    if let Some(pods) = kubernetes_executor(config)? {
        // Its capacity is that of a cluster, of which nothing may run on this host.
        let all: [Arc<dyn Executor>; 2] = [pods, Arc::new(BuiltinExecutor)];
        return Ok(all.map(|executor| (executor.kind(), executor)).into());
    }
    let mut all: Vec<Arc<dyn Executor>> = vec![Arc::new(process), Arc::new(BuiltinExecutor)];
    if !functions.is_empty() {
        let executor = FunctionExecutor::open(functions, &config.functions, config.grace);
        let executor = executor
            .map_err(|source| StartError::Threads { what: "blocking functions", source })?;
        all.push(Arc::new(executor));
    }
    #[cfg(feature = "container")]
    all.extend(container_executor(config)?);
    #[cfg(feature = "http")]
    match kahn_executor_http::HttpExecutor::open(&config.http) {
        Ok(executor) => all.push(Arc::new(executor)),
        Err(reason) => tracing::info!(%reason, "this worker makes no requests over HTTP"),
    }
    let python = PythonExecutor::open(config.python.clone(), in_dir("python"))?;
    all.extend(python.map(|executor| -> Arc<dyn Executor> { Arc::new(executor) }));
    Ok(all.into_iter().map(|executor| (executor.kind(), executor)).collect())
}

/// Returns the container executor, or `None` without an engine.
#[cfg(feature = "container")]
fn container_executor(config: &Config) -> Result<Option<Arc<dyn Executor>>, StartError> {
    let dir = config.data_dir.join("containers");
    let (settings, worker) = (config.container.clone(), config.worker_id()?);
    match kahn_executor_container::ContainerExecutor::open(settings, &worker, &dir, config.grace) {
        Ok(executor) => Ok(Some(Arc::new(executor))),
        Err(reason) => {
            tracing::info!(%reason, "this worker runs no containers");
            Ok(None)
        }
    }
}

/// Returns whether attempts run elsewhere than on this host.
fn attempts_are_elsewhere(config: &Config) -> bool {
    #[cfg(feature = "kubernetes")]
    return config.kubernetes.enabled;
    #[cfg(not(feature = "kubernetes"))]
    return false;
}

/// Returns the executor for pods, if the worker runs pods.
#[cfg(feature = "kubernetes")]
fn kubernetes_executor(config: &Config) -> Result<Option<Arc<dyn Executor>>, StartError> {
    use kahn_executor_kubernetes::KubernetesExecutor;

    let settings = config.kubernetes.clone();
    if !settings.enabled {
        return Ok(None);
    }
    let (dir, worker) = (config.data_dir.join("pods"), config.worker_id()?);
    let executor = KubernetesExecutor::open(settings, &worker, &dir, config.grace)?;
    Ok(Some(Arc::new(executor)))
}

/// Draws a random number that identifies this start of the worker.
fn boot() -> Result<BootId, StartError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| StartError::Random(error.to_string()))?;
    Ok(BootId(u64::from_le_bytes(bytes)))
}
