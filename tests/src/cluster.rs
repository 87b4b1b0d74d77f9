//! A cluster on this host: Redis, one coordinator, and workers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::binary::{Answer, kahn, kahn_path};
use crate::history::History;
use crate::http::{metric, metrics};
use crate::port::free_port;
use crate::process::Process;
use crate::redis::RedisServer;
use crate::wait::wait_until;

/// Where the coordinator keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Redis with an append-only file that is synced every second.
    RedisEverysec,
    /// Redis with an append-only file that is synced before every reply.
    RedisAlways,
    /// The embedded store.
    Embedded,
}

/// The parts of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Where the coordinator keeps its state.
    pub store: Store,
    /// The workers.
    pub workers: Vec<WorkerOptions>,
}

/// The settings of a worker.
#[derive(Clone, Debug, Default)]
pub struct WorkerOptions {
    /// The name.
    pub name: String,
    /// The capacity, such as `cpu=2 memory=1Gi`.
    pub capacity: String,
    /// One label.
    pub label: (String, String),
    /// Additional environment variables.
    pub environment: Vec<(String, String)>,
    /// The program, if not `kahn worker`.
    pub program: Option<PathBuf>,
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    dir: TempDir,
    /// The Redis server, if the store is one.
    pub redis: Option<RedisServer>,
    coordinator: Process,
    workers: Vec<(WorkerOptions, Process)>,
    port: u16,
    health_port: u16,
    store_url: String,
    environment: Vec<(String, String)>,
}

impl Cluster {
    /// Starts the cluster, and waits until every worker is attached.
    ///
    /// # Errors
    ///
    /// Returns an error if a process does not start or become ready.
    pub fn start(options: &ClusterOptions) -> anyhow::Result<Self> {
        Self::start_with(options, &[])
    }

    /// Like [`start`](Self::start), with additional environment variables for the coordinator.
    ///
    /// # Errors
    ///
    /// Returns an error if a process does not start or become ready.
    pub fn start_with(
        options: &ClusterOptions,
        environment: &[(String, String)],
    ) -> anyhow::Result<Self> {
        Self::start_on(options, environment, |_, _| Ok(()))
    }

    /// Like [`start_with`](Self::start_with). The store is first prepared by `prepare`, which gets the
    /// data directory of the coordinator and the URL of the store.
    ///
    /// # Errors
    ///
    /// Returns an error if the store cannot be prepared, or if a process does not start or become
    /// ready.
    pub fn start_on(
        options: &ClusterOptions,
        environment: &[(String, String)],
        prepare: impl FnOnce(&Path, &str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let redis = match options.store {
            Store::Embedded => None,
            Store::RedisEverysec => Some(RedisServer::start(dir.path().join("redis"), "everysec")?),
            Store::RedisAlways => Some(RedisServer::start(dir.path().join("redis"), "always")?),
        };
        let store_url = redis.as_ref().map_or_else(|| "embedded".to_owned(), RedisServer::url);
        prepare(&dir.path().join("coordinator"), &store_url)?;
        let (port, health_port) = (free_port()?, free_port()?);
        let environment = environment.to_vec();
        let coordinator =
            launch_coordinator(dir.path(), port, health_port, &store_url, &environment)?;
        let workers = Vec::new();
        let mut cluster =
            Self { dir, redis, coordinator, workers, port, health_port, store_url, environment };
        cluster.wait_until_ready()?;
        for worker in &options.workers {
            cluster.add_worker(worker.clone())?;
        }
        cluster.wait_for_workers(options.workers.len())?;
        Ok(cluster)
    }

    /// Adds a worker.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be started.
    pub fn add_worker(&mut self, options: WorkerOptions) -> anyhow::Result<()> {
        let process = self.launch_worker(&options)?;
        self.workers.push((options, process));
        Ok(())
    }

    fn launch_worker(&self, options: &WorkerOptions) -> anyhow::Result<Process> {
        let dir = self.dir.path().join(&options.name);
        std::fs::create_dir_all(&dir)?;
        let token = self.dir.path().join("coordinator/worker.token");
        let mut command = match &options.program {
            Some(program) => Command::new(program),
            None => {
                let mut command = Command::new(kahn_path());
                command.arg("worker");
                command
            }
        };
        // Load from other tests must not throttle workers, unless the test is about pressure.
        command
            .env("KAHN_WORKER__PRESSURE__MODE", "off")
            .envs(options.environment.iter().cloned())
            .env("KAHN_WORKER__COORDINATOR", self.url())
            .env("KAHN_WORKER__NAME", &options.name)
            .env("KAHN_WORKER__CAPACITY", &options.capacity)
            .env("KAHN_WORKER__DATA_DIR", &dir)
            .env("KAHN_WORKER__TOKEN_FILE", token)
            .env("KAHN_WORKER__HEALTH__LISTEN", "127.0.0.1:0")
            .env(
                format!("KAHN_WORKER__LABELS__{}", options.label.0.to_uppercase()),
                &options.label.1,
            );
        Process::start(command, &self.dir.path().join(format!("{}.log", options.name)))
    }

    /// Returns the data directory of a worker.
    #[must_use]
    pub fn worker_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the URL of the coordinator.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Runs `kahn` as a client of this cluster.
    ///
    /// # Errors
    ///
    /// Returns an error if the command cannot be started.
    pub fn kahn(&self, args: &[&str]) -> anyhow::Result<Answer> {
        kahn(args, &self.client_environment())
    }

    /// Returns the client token.
    ///
    /// # Errors
    ///
    /// Returns an error if its file cannot be read.
    pub fn client_token(&self) -> anyhow::Result<String> {
        let file = self.dir.path().join("coordinator/client.token");
        Ok(std::fs::read_to_string(file)?.trim().to_owned())
    }

    /// Returns the environment variables for a client of this cluster.
    #[must_use]
    pub fn client_environment(&self) -> Vec<(String, String)> {
        let token = self.dir.path().join("coordinator/client.token");
        [("KAHN_COORDINATOR_URL", self.url()), ("KAHN_TOKEN_FILE", token.display().to_string())]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    /// Starts `kahn` as a client of this cluster in the background. Its output goes to two files in
    /// the cluster's directory: `NAME.out` and `NAME.err`.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be started.
    pub fn start_kahn(&self, name: &str, args: &[&str]) -> anyhow::Result<Process> {
        let mut command = Command::new(kahn_path());
        command.args(args).envs(self.client_environment()).env("NO_COLOR", "1");
        let at = |end: &str| self.dir.path().join(format!("{name}.{end}"));
        Process::start_split(command, &at("out"), &at("err"))
    }

    /// Returns the path of a file in the cluster's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the coordinator again after it was killed.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not become ready.
    pub fn start_coordinator(&mut self) -> anyhow::Result<()> {
        self.coordinator = launch_coordinator(
            self.dir.path(),
            self.port,
            self.health_port,
            &self.store_url,
            &self.environment,
        )?;
        self.wait_until_ready()
    }

    /// Kills the coordinator with SIGKILL and restarts it, as Kubernetes would.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not become ready.
    pub fn kill_coordinator(&mut self) -> anyhow::Result<()> {
        self.coordinator.kill9()?;
        self.start_coordinator()
    }

    /// Kills a worker with SIGKILL, without restarting it.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such worker.
    pub fn kill_worker(&mut self, name: &str) -> anyhow::Result<()> {
        self.worker(name)?.kill9()
    }

    /// Restarts a killed worker with its existing data.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such worker, or it cannot be started.
    pub fn restart_worker(&mut self, name: &str) -> anyhow::Result<()> {
        let found = self.workers.iter().position(|(options, _)| options.name == name);
        let at = found.with_context(|| format!("no worker {name}"))?;
        let (options, _) = self.workers.remove(at);
        self.add_worker(options)
    }

    /// Returns the process of a worker.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such worker.
    pub fn worker(&mut self, name: &str) -> anyhow::Result<&mut Process> {
        let found = self.workers.iter_mut().find(|(options, _)| options.name == name);
        found.map(|(_, process)| process).with_context(|| format!("no worker {name}"))
    }

    /// Returns the coordinator's process.
    pub fn coordinator(&mut self) -> &mut Process {
        &mut self.coordinator
    }

    /// Returns a metric of the coordinator since its last start.
    ///
    /// # Errors
    ///
    /// Returns an error if the coordinator does not answer.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        metric(self.health_port, name)
    }

    /// Returns all metrics of the coordinator.
    ///
    /// # Errors
    ///
    /// Returns an error if the coordinator does not answer.
    pub fn metrics(&self) -> anyhow::Result<String> {
        metrics(self.health_port)
    }

    /// Returns the directory with all data of the cluster.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns all events of a run.
    ///
    /// # Errors
    ///
    /// Returns an error if the coordinator does not return them.
    pub fn history(&self, run: &str) -> anyhow::Result<History> {
        History::read(&self.kahn(&["events", run, "--output", "json"])?.ok()?)
    }

    /// Writes a file to the cluster's directory.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written.
    pub fn write(&self, name: &str, contents: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir.path().join(name);
        std::fs::write(&path, contents)?;
        Ok(path)
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        // The health endpoint answers before tokens exist and before runs are served.
        let up = wait_until("the coordinator to be ready", Duration::from_secs(60), || {
            metric(self.health_port, "kahn_runs").is_ok()
                && self.kahn(&["list"]).is_ok_and(|answer| answer.code == 0)
        });
        up.with_context(|| self.coordinator.printed())
    }

    /// Waits until this many workers accept leases.
    ///
    /// # Errors
    ///
    /// Returns an error if they do not attach in time.
    pub fn wait_for_workers(&self, n: usize) -> anyhow::Result<()> {
        let came = wait_until(&format!("{n} workers"), Duration::from_secs(60), || {
            let workers = self.kahn(&["workers", "--output", "json"]);
            let lines = workers.ok().and_then(|answer| answer.json_lines().ok());
            lines.is_some_and(|lines| {
                lines.iter().filter(|worker| worker["status"] == "attached").count() >= n
            })
        });
        came.with_context(|| {
            let printed = self.workers.iter().map(|(_, process)| process.printed());
            format!("{}\n{}", self.coordinator.printed(), printed.collect::<String>())
        })
    }
}

fn launch_coordinator(
    dir: &Path,
    port: u16,
    health_port: u16,
    store_url: &str,
    environment: &[(String, String)],
) -> anyhow::Result<Process> {
    let data_dir = dir.join("coordinator");
    let mut command = Command::new(kahn_path());
    command
        .arg("coordinator")
        .envs(environment.iter().cloned())
        .env("KAHN_COORDINATOR__LISTEN", format!("127.0.0.1:{port}"))
        .env("KAHN_COORDINATOR__HEALTH__LISTEN", format!("127.0.0.1:{health_port}"))
        .env("KAHN_COORDINATOR__DATA_DIR", data_dir)
        .env("KAHN_COORDINATOR__STORE__URL", store_url)
        .env("KAHN_COORDINATOR__LEASE_TTL", "5s")
        .env("KAHN_COORDINATOR__SUSPECT_AFTER", "2s");
    Process::start(command, &dir.join("coordinator.log"))
}
