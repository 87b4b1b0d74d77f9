//! Several coordinators on one Redis server, and workers that know all of them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::binary::{Answer, kahn, kahn_path};
use crate::certs::Certs;
use crate::history::History;
use crate::http::metric;
use crate::port::free_port;
use crate::process::Process;
use crate::redis::RedisServer;
use crate::wait::{wait_for, wait_until};
use crate::wire::{Condition, Wire};

/// How long to wait for anything that is not measured.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The number of lines of output to show of each process.
const LINES_SHOWN: usize = 50;

#[derive(Debug)]
struct Member {
    place: Place,
    process: Process,
}

/// Where a coordinator listens and keeps its data.
#[derive(Debug)]
struct Place {
    name: String,
    port: u16,
    health_port: u16,
    wires: Option<Wires>,
}

/// The proxies of a coordinator.
#[derive(Debug)]
struct Wires {
    /// In front of it: for clients, workers and other coordinators.
    front: Wire,
    /// Between it and Redis.
    store: Wire,
}

impl Place {
    fn find(name: String) -> anyhow::Result<Self> {
        Ok(Self { name, port: free_port()?, health_port: free_port()?, wires: None })
    }

    /// Returns the port for clients.
    fn front_port(&self) -> u16 {
        self.wires.as_ref().map_or(self.port, |wires| wires.front.port())
    }
}

/// A cluster with standbys.
#[derive(Debug)]
pub struct Coordinators {
    dir: TempDir,
    redis: RedisServer,
    certs: Option<Certs>,
    members: Vec<Member>,
    workers: Vec<Process>,
    /// Configuration of all coordinators, as environment variables.
    environment: Vec<(String, String)>,
}

/// A process of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The coordinator with this number.
    Coordinator(usize),
    /// The worker with this number, named `w` and the number.
    Worker(usize),
    /// The Redis server.
    Redis,
}

/// What can be slow, silent or cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// All connections to the coordinator with this number.
    Front(usize),
    /// The connections between the coordinator with this number and Redis.
    Store(usize),
}

/// How a cluster differs from the usual one.
#[derive(Debug, Default)]
struct Variant {
    certs: Option<Certs>,
    has_wires: bool,
    /// Configuration of all coordinators, as environment variables.
    environment: Vec<(String, String)>,
}

impl Coordinators {
    /// Starts this many coordinators and workers, and waits until one of the coordinators leads,
    /// the others stand by, and the workers are attached.
    ///
    /// # Errors
    ///
    /// Returns an error if a process does not start or become ready.
    pub fn start(n: usize, n_workers: usize) -> anyhow::Result<Self> {
        Self::start_in(tempfile::tempdir()?, Variant::default(), n, n_workers)
    }

    /// Like [`start`](Self::start), for coordinators with this configuration, in the form of
    /// environment variables.
    ///
    /// # Errors
    ///
    /// Returns an error if a process does not start or become ready.
    pub fn start_with(
        n: usize,
        n_workers: usize,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let variant = Variant { environment: environment.collect(), ..Variant::default() };
        Self::start_in(tempfile::tempdir()?, variant, n, n_workers)
    }

    /// Like [`start`](Self::start), with proxies in front of all coordinators and between them and
    /// Redis, for [`set_condition`](Self::set_condition).
    ///
    /// # Errors
    ///
    /// Returns an error if a process does not start or become ready.
    pub fn start_with_wires(n: usize, n_workers: usize) -> anyhow::Result<Self> {
        let variant = Variant { has_wires: true, ..Variant::default() };
        Self::start_in(tempfile::tempdir()?, variant, n, n_workers)
    }

    /// Like [`start`](Self::start), with TLS and certificates for everybody: `coordinator`, `worker`
    /// and `client`.
    ///
    /// # Errors
    ///
    /// Returns an error if a process does not start or become ready.
    pub fn start_with_tls(n: usize, n_workers: usize) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let certs = Certs::create(&dir.path().join("certs"))?;
        for name in ["coordinator", "worker", "client"] {
            certs.issue(name)?;
        }
        Self::start_in(dir, Variant { certs: Some(certs), ..Variant::default() }, n, n_workers)
    }

    fn start_in(
        dir: TempDir,
        Variant { certs, has_wires, environment }: Variant,
        n: usize,
        n_workers: usize,
    ) -> anyhow::Result<Self> {
        let redis = RedisServer::start(dir.path().join("redis"), "everysec")?;
        let (members, workers) = Default::default();
        let mut cluster = Self { dir, redis, certs, members, workers, environment };
        cluster.write_tokens()?;
        for number in 0..n {
            let mut place = Place::find(format!("c{number}"))?;
            if has_wires {
                let (front, store) = (Wire::to(place.port)?, Wire::to(cluster.redis.port())?);
                place.wires = Some(Wires { front, store });
            }
            let process = cluster.launch(&place)?;
            cluster.members.push(Member { place, process });
        }
        let ready = wait_until("a leader and its standbys", TIMEOUT, || {
            (0..n).filter(|ix| cluster.has_role(*ix, "leader")).count() == 1
                && (0..n).filter(|ix| cluster.has_role(*ix, "standby")).count() == n - 1
        });
        ready.with_context(|| cluster.printed())?;
        for number in 0..n_workers {
            let worker = cluster.launch_worker(number)?;
            cluster.workers.push(worker);
        }
        cluster.wait_for_workers()?;
        Ok(cluster)
    }

    fn write_tokens(&self) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        for (name, digit) in [("client.token", "c"), ("worker.token", "d")] {
            let path = self.dir.path().join(name);
            std::fs::write(&path, digit.repeat(43))?;
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
        }
        Ok(())
    }

    fn launch(&self, place: &Place) -> anyhow::Result<Process> {
        let at = |name: &str| self.dir.path().join(name);
        let Place { name, port, health_port, wires } = place;
        let store_url = match wires {
            Some(wires) => format!("redis://127.0.0.1:{}", wires.store.port()),
            None => self.redis.url(),
        };
        let mut command = Command::new(kahn_path());
        command
            .arg("coordinator")
            .env("KAHN_COORDINATOR__LISTEN", format!("127.0.0.1:{port}"))
            .env("KAHN_COORDINATOR__HEALTH__LISTEN", format!("127.0.0.1:{health_port}"))
            .env("KAHN_COORDINATOR__DATA_DIR", at(name))
            .env("KAHN_COORDINATOR__CLIENT_TOKEN_FILE", at("client.token"))
            .env("KAHN_COORDINATOR__WORKER_TOKEN_FILE", at("worker.token"))
            .env("KAHN_COORDINATOR__ADVERTISE", self.url_of(place))
            .env("KAHN_COORDINATOR__STORE__URL", store_url)
            .env("KAHN_COORDINATOR__LEADER_TTL", "2s")
            .envs(self.tls_environment("KAHN_COORDINATOR__TLS__", "coordinator"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(certs) = &self.certs {
            command.env("KAHN_COORDINATOR__TLS__CLIENT_CA_FILE", certs.file("ca.pem"));
        }
        Process::start(command, &at(&format!("{name}.log")))
    }

    fn launch_worker(&self, number: usize) -> anyhow::Result<Process> {
        let (name, at) = (format!("w{number}"), |name: &str| self.dir.path().join(name));
        let mut command = Command::new(kahn_path());
        command
            .arg("worker")
            .env("KAHN_WORKER__PRESSURE__MODE", "off")
            .env("KAHN_WORKER__COORDINATOR", self.urls())
            .env("KAHN_WORKER__NAME", &name)
            .env("KAHN_WORKER__CAPACITY", "cpu=4 memory=4Gi")
            .env("KAHN_WORKER__DATA_DIR", at(&name))
            .env("KAHN_WORKER__TOKEN_FILE", at("worker.token"))
            .env("KAHN_WORKER__HEALTH__LISTEN", "127.0.0.1:0")
            .envs(self.tls_environment("KAHN_WORKER__TLS__", "worker"));
        Process::start(command, &at(&format!("{name}.log")))
    }

    fn tls_environment(&self, prefix: &str, name: &str) -> Vec<(String, String)> {
        self.certs.as_ref().map(|certs| certs.environment(prefix, name)).unwrap_or_default()
    }

    /// Returns the certificates, if the cluster has any.
    #[must_use]
    pub fn certs(&self) -> Option<&Certs> {
        self.certs.as_ref()
    }

    fn wait_for_workers(&self) -> anyhow::Result<()> {
        let came = wait_until("the workers to attach", TIMEOUT, || {
            let workers = self.kahn(&["workers", "--output", "json"]);
            let lines = workers.ok().and_then(|answer| answer.json_lines().ok());
            lines.is_some_and(|lines| {
                let attached = lines.iter().filter(|worker| worker["status"] == "attached");
                attached.count() == self.workers.len()
            })
        });
        came.with_context(|| self.printed())
    }

    /// Returns whether a coordinator says that it has this role.
    #[must_use]
    pub fn has_role(&self, ix: usize, role: &str) -> bool {
        let gauge = format!("kahn_coordinator_role{{role=\"{role}\"}}");
        metric(self.members[ix].place.health_port, &gauge).is_ok_and(|value| value > 0.0)
    }

    /// Waits until a coordinator has this role.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not have it in time.
    pub fn wait_for_role(&self, ix: usize, role: &str) -> anyhow::Result<()> {
        let name = &self.members[ix].place.name;
        wait_until(&format!("{name} to be {role}"), TIMEOUT, || self.has_role(ix, role))
            .with_context(|| self.printed())
    }

    /// Waits for a leader other than `except`, and returns its index and how long that took.
    ///
    /// # Errors
    ///
    /// Returns an error if there is none in time.
    pub fn wait_for_leader(&self, except: Option<usize>) -> anyhow::Result<(usize, Duration)> {
        let since = Instant::now();
        let leader = wait_for("a leader", TIMEOUT, || {
            (0..self.members.len()).find(|ix| Some(*ix) != except && self.has_role(*ix, "leader"))
        });
        Ok((leader.with_context(|| self.printed())?, since.elapsed()))
    }

    fn process(&mut self, part: Part) -> &mut Process {
        match part {
            Part::Coordinator(ix) => &mut self.members[ix].process,
            Part::Worker(ix) => &mut self.workers[ix],
            Part::Redis => self.redis.process(),
        }
    }

    /// Returns whether a process is running.
    pub fn is_running(&mut self, part: Part) -> bool {
        self.process(part).is_running()
    }

    /// Kills a process with SIGKILL.
    ///
    /// # Errors
    ///
    /// Returns an error if a system call fails.
    pub fn kill9(&mut self, part: Part) -> anyhow::Result<()> {
        self.process(part).kill9()
    }

    /// Sends a signal to a process, by name, such as `TERM`.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not run.
    pub fn signal(&mut self, part: Part, name: &str) -> anyhow::Result<()> {
        self.process(part).signal(name)
    }

    /// Waits for the exit of a coordinator, and returns its code.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not exit in time.
    pub fn wait_for_exit(&mut self, ix: usize) -> anyhow::Result<i32> {
        self.members[ix].process.wait(TIMEOUT)
    }

    /// Starts a process again that has ended, with the data that it left.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be started.
    pub fn restart(&mut self, part: Part) -> anyhow::Result<()> {
        match part {
            Part::Coordinator(ix) => {
                self.members[ix].process = self.launch(&self.members[ix].place)?;
            }
            Part::Worker(ix) => self.workers[ix] = self.launch_worker(ix)?,
            Part::Redis => self.redis.restart()?,
        }
        Ok(())
    }

    /// Removes the data directory of a coordinator that has ended.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be removed.
    pub fn remove_data(&self, ix: usize) -> anyhow::Result<()> {
        Ok(std::fs::remove_dir_all(self.dir.path().join(&self.members[ix].place.name))?)
    }

    /// Starts one more coordinator, with a copy of the data directory of another one as it is now.
    /// Returns its index.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be copied, or the coordinator not started.
    pub fn start_copy(&mut self, ix: usize) -> anyhow::Result<usize> {
        let place = Place::find(format!("c{}", self.members.len()))?;
        let at = |name: &str| self.dir.path().join(name);
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(at(&self.members[ix].place.name)).arg(at(&place.name));
        anyhow::ensure!(copy.status()?.success(), "cannot copy a data directory");
        let process = self.launch(&place)?;
        self.members.push(Member { place, process });
        Ok(self.members.len() - 1)
    }

    /// Returns the value of a metric of a coordinator.
    ///
    /// # Errors
    ///
    /// Returns an error if the coordinator does not show it.
    pub fn metric(&self, ix: usize, name: &str) -> anyhow::Result<f64> {
        metric(self.members[ix].place.health_port, name)
    }

    /// Returns the directory in which a worker keeps output until it is stored.
    #[must_use]
    pub fn kept_output(&self, worker: usize) -> PathBuf {
        self.dir.path().join(format!("w{worker}/output"))
    }

    /// Returns the number of coordinators.
    #[must_use]
    pub fn n_coordinators(&self) -> usize {
        self.members.len()
    }

    /// Returns the number of workers.
    #[must_use]
    pub fn n_workers(&self) -> usize {
        self.workers.len()
    }

    /// Returns the token of workers.
    ///
    /// # Errors
    ///
    /// Returns an error if its file cannot be read.
    pub fn worker_token(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.dir.path().join("worker.token"))?)
    }

    /// Returns the processor time that a process has used.
    ///
    /// # Errors
    ///
    /// Returns an error if the process has ended.
    pub fn cpu(&mut self, part: Part) -> anyhow::Result<Duration> {
        self.process(part).cpu()
    }

    /// Returns the token of clients.
    ///
    /// # Errors
    ///
    /// Returns an error if its file cannot be read.
    pub fn client_token(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.dir.path().join("client.token"))?)
    }

    /// Returns the URL of a coordinator.
    #[must_use]
    pub fn url(&self, ix: usize) -> String {
        self.url_of(&self.members[ix].place)
    }

    fn url_of(&self, place: &Place) -> String {
        let scheme = if self.certs.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", place.front_port())
    }

    /// Changes the state of connections of a cluster [with
    /// wires](Self::start_with_wires).
    ///
    /// # Panics
    ///
    /// Panics if the cluster has none.
    pub fn set_condition(&self, cable: Cable, condition: Condition) {
        let (Cable::Front(ix) | Cable::Store(ix)) = cable;
        let wires = self.members[ix].place.wires.as_ref().expect("a cluster with wires");
        match cable {
            Cable::Front(_) => wires.front.set(condition),
            Cable::Store(_) => wires.store.set(condition),
        }
    }

    /// Returns the URLs of all coordinators.
    #[must_use]
    pub fn urls(&self) -> String {
        (0..self.members.len()).map(|ix| self.url(ix)).collect::<Vec<_>>().join(",")
    }

    /// Runs `kahn` as a client of these URLs.
    ///
    /// # Errors
    ///
    /// Returns an error if the command cannot be started.
    pub fn kahn_at(&self, urls: &str, args: &[&str]) -> anyhow::Result<Answer> {
        kahn(args, &self.client_environment(urls))
    }

    /// Runs `kahn` as a client of all coordinators.
    ///
    /// # Errors
    ///
    /// Returns an error if the command cannot be started.
    pub fn kahn(&self, args: &[&str]) -> anyhow::Result<Answer> {
        self.kahn_at(&self.urls(), args)
    }

    /// Starts `kahn` as a client of these URLs in the background.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be started.
    pub fn start_kahn(&self, urls: &str, name: &str, args: &[&str]) -> anyhow::Result<Process> {
        let mut command = Command::new(kahn_path());
        command.args(args).envs(self.client_environment(urls)).env("NO_COLOR", "1");
        let at = |end: &str| self.dir.path().join(format!("{name}.{end}"));
        Process::start_split(command, &at("out"), &at("err"))
    }

    fn client_environment(&self, urls: &str) -> Vec<(String, String)> {
        let token = self.dir.path().join("client.token").display().to_string();
        [("KAHN_COORDINATOR_URL", urls), ("KAHN_TOKEN_FILE", token.as_str())]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .chain(self.tls_environment("KAHN_", "client"))
            .collect()
    }

    /// Returns all events of a run.
    ///
    /// # Errors
    ///
    /// Returns an error if the leader does not return them.
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

    /// Returns the latest output of all coordinators and workers.
    #[must_use]
    pub fn printed(&self) -> String {
        let coordinators = self.members.iter().map(|member| &member.process);
        let tail = |process: &Process| {
            let printed = process.printed();
            let lines: Vec<&str> = printed.lines().rev().take(LINES_SHOWN).collect();
            lines.into_iter().rev().map(|line| format!("{line}\n")).collect::<String>()
        };
        coordinators.chain(&self.workers).map(tail).collect()
    }
}
