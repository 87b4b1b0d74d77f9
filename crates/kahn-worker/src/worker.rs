//! The worker put together: core, executors, spools, connection.

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
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tracing::{info, warn};

use crate::config::{Config, InvalidConfig};
use crate::driver::{AttemptParts, Driver, Input, ShareGauge, left_behind};
use crate::pressure::watch;
use crate::session::{Link, keep_open};
use crate::shipping::Shipping;
use crate::spool::{Durability, Spool};
use crate::wire::Identity;
use kahn_executor::logs::LogDir;
use kahn_executor::secrets::Secrets;

/// Inputs that may wait for the driver; beyond that whoever sends waits.
const INBOX_MAX: usize = 8192;

/// How long a worker that has drained waits for its output to be received.
const LAST_OUTPUT_WAIT: Duration = Duration::from_secs(5);

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
    /// The system gives no threads.
    #[error("no threads for {what}: {source}")]
    Threads {
        /// What they were for.
        what: &'static str,
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

/// A worker to be: its configuration, and the functions that tasks may call.
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
    /// Registers an asynchronous function: a task calls it as `function: name`. One that is
    /// registered again takes the place of the one before. Input and output travel as JSON.
    ///
    /// When the attempt is called off, the context says so, and after the grace the function is
    /// dropped.
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

    /// Registers a function that blocks; it runs on a thread of a pool. It is not ended from
    /// outside: a long one should look at [`FunctionContext::is_cancelled`].
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

    /// What an operator chose.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Reads what an earlier start left behind, and attaches to the coordinator behind `channel`.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what is in the way. That the coordinator cannot be reached is not in the
    /// way: the worker keeps trying.
    pub fn start(
        self,
        channel: Channel,
        token: Token,
        services: Services,
    ) -> Result<Worker, StartError> {
        Worker::assemble(self, channel, token, services)
    }
}

/// A running worker. Dropping it ends its session at once; its processes are ended by whoever
/// starts next in the same data directory.
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
    /// A worker to be.
    #[must_use]
    pub fn builder(config: Config) -> WorkerBuilder {
        WorkerBuilder { config, functions: Functions::default() }
    }

    fn assemble(
        builder: WorkerBuilder,
        channel: Channel,
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
        let left_in_logs = logs.left_behind().map_err(failed(at("output")))?;
        let worker = config.worker_id()?;
        let (capacity, bound) = (config.resources()?, config.memory_bound());
        let limits = Limits::open(config.limits, &worker, &capacity, bound, &at("groups"));
        info!(limits = %limits.statement(), "what attempts are held to");
        let mut labels = labels(&config, &functions, &limits);
        let environment = services.environment;
        let executors = executors(&config, functions, environment.clone(), &limits)?;
        // After the executors, which see to it that no other worker has the directory.
        let (dir, data_dir) = (config.secrets_dir.as_deref(), &config.data_dir);
        let secrets = Secrets::open(&config.secrets, &environment, dir, data_dir)
            .map_err(InvalidConfig::from)?;
        labels.extend(secrets.labels().map(|label| (label, String::new())));
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
        let link = Link { channel, token };
        let (shipping, streaming) = Shipping::start(link.clone(), logs.clone());
        shipping.ship_left_behind(left_in_logs);
        let parts = AttemptParts {
            executors,
            secrets: Arc::new(secrets),
            logs,
            shipping: shipping.clone(),
            inbox: inbox.clone(),
        };
        let help = "The share of its capacity that the worker accepts, from 0 to 1";
        let accepts = services.metrics.register("worker_accepts", help, ShareGauge::default());
        accepts.set(1.0);
        let driver = Driver::new(core, identity, inputs, parts, spool, accepts);
        let driver = tokio::spawn(driver.run());
        let pressure = watch(&config.pressure, inbox.clone());
        let session = tokio::spawn(keep_open(link, inbox.clone()));
        services.readiness.set("worker", Ok(()));
        Ok(Self { inbox, driver, session, shipping, streaming, pressure, offer })
    }

    /// What it has for tasks.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        &self.offer
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
        // What takes longer is shipped by the next start in the same directory.
        drop(tokio::time::timeout(LAST_OUTPUT_WAIT, self.shipping.idle()).await);
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

/// What it says of itself; a function asks for a worker that has it by a label.
fn labels(config: &Config, functions: &Functions, limits: &Limits) -> Labels {
    let mut labels = config.labels.clone();
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

/// Containers, when there is an engine.
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

/// A number that no other start of a worker has.
fn boot() -> Result<BootId, StartError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| StartError::Random(error.to_string()))?;
    Ok(BootId(u64::from_le_bytes(bytes)))
}
