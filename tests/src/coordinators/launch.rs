//! Starts the processes of a cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use tempfile::TempDir;

use super::{Coordinators, Member, Programs, TIMEOUT, Worker};
use crate::certs::Certs;
use crate::clocks::Clocks;
use crate::port::free_port;
use crate::process::Process;
use crate::servers::{Servers, StoreKind};
use crate::small_disk::SmallDisk;
use crate::wait::wait_until;
use crate::wire::Wire;

/// The size of a small disk.
const DISK_MEBIBYTES: u32 = 32;
/// An append-only file may be rewritten on it.
const REDIS_DISK_MEBIBYTES: u32 = 256;

/// Where a coordinator listens and keeps its data.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) port: u16,
    pub(super) health_port: u16,
    pub(super) wires: Option<Wires>,
}

/// The proxies of a coordinator.
#[derive(Debug)]
pub(super) struct Wires {
    /// In front of it: for clients, workers and other coordinators.
    pub(super) front: Wire,
    /// Between it and Redis; `None` if Redis consists of several servers, which tell clients their
    /// own addresses.
    pub(super) store: Option<Wire>,
}

impl Place {
    fn find(name: String, program: PathBuf) -> anyhow::Result<Self> {
        let (port, health_port) = (free_port()?, free_port()?);
        Ok(Self { name, program, port, health_port, wires: None })
    }

    /// Returns the port for clients.
    pub(super) fn front_port(&self) -> u16 {
        self.wires.as_ref().map_or(self.port, |wires| wires.front.port())
    }
}

/// How a cluster differs from the usual one.
#[derive(Debug, Default)]
pub(crate) struct Variant {
    pub(crate) certs: Option<Certs>,
    /// How Redis is run.
    pub(crate) store: StoreKind,
    /// Whether there are proxies, for [`Coordinators::set_condition`].
    pub(crate) has_wires: bool,
    /// Whether data directories are on small disks, for [`Coordinators::fill_disk`].
    pub(crate) has_small_disks: bool,
    /// The clocks of coordinators and workers, for [`Coordinators::step_clock`].
    pub(crate) clocks: Option<Clocks>,
    /// The programs to start.
    pub(crate) programs: Programs,
    /// Configuration of all coordinators, as environment variables.
    pub(crate) environment: Vec<(String, String)>,
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

    /// Like [`start`](Self::start), with these programs.
    ///
    /// # Errors
    ///
    /// Returns an error if a process does not start or become ready.
    pub fn start_with_programs(
        n: usize,
        n_workers: usize,
        programs: Programs,
    ) -> anyhow::Result<Self> {
        let variant = Variant { programs, ..Variant::default() };
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

    /// Starts a cluster that differs from the usual one, with its files in `dir`.
    pub(crate) fn start_in(
        dir: TempDir,
        variant: Variant,
        n: usize,
        n_workers: usize,
    ) -> anyhow::Result<Self> {
        let Variant { certs, store, has_wires, has_small_disks, clocks, programs, environment } =
            variant;
        let disks = if has_small_disks { mount(dir.path(), n, n_workers)? } else { Vec::new() };
        let servers = Servers::start(store, &dir.path().join("redis"))?;
        let (members, workers) = Default::default();
        let mut cluster =
            Self { members, workers, servers, disks, clocks, certs, environment, dir };
        cluster.write_tokens()?;
        for number in 0..n {
            let mut place = Place::find(format!("c{number}"), programs.coordinators.clone())?;
            if has_wires {
                place.wires = Some(cluster.wires(&place)?);
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
            let process = cluster.launch_worker(number, &programs.workers)?;
            cluster.workers.push(Worker { program: programs.workers.clone(), process });
        }
        cluster.wait_for_workers()?;
        Ok(cluster)
    }

    fn wires(&self, place: &Place) -> anyhow::Result<Wires> {
        let store = match &self.servers {
            Servers::Single(server) => Some(Wire::to(server.port())?),
            Servers::Replicated(_) => None,
        };
        Ok(Wires { front: Wire::to(place.port)?, store })
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

    pub(super) fn launch(&self, place: &Place) -> anyhow::Result<Process> {
        let at = |name: &str| self.dir.path().join(name);
        let Place { name, program, port, health_port, wires } = place;
        let store_url = match wires.as_ref().and_then(|wires| wires.store.as_ref()) {
            Some(wire) => format!("redis://127.0.0.1:{}", wire.port()),
            None => self.servers.url(),
        };
        let mut command = Command::new(program);
        command
            .arg("coordinator")
            .env("KAHN_COORDINATOR__LISTEN", format!("127.0.0.1:{port}"))
            .env("KAHN_COORDINATOR__HEALTH__LISTEN", format!("127.0.0.1:{health_port}"))
            .env("KAHN_COORDINATOR__DATA_DIR", at(name))
            .env("KAHN_COORDINATOR__CLIENT_TOKEN_FILE", at("client.token"))
            .env("KAHN_COORDINATOR__WORKER_TOKEN_FILE", at("worker.token"))
            .env("KAHN_COORDINATOR__ADVERTISE", self.url_of(place))
            .env("KAHN_COORDINATOR__STORE__URL", store_url)
            .envs(self.servers.environment())
            .env("KAHN_COORDINATOR__LEADER_TTL", "2s")
            .envs(self.clock_environment(name)?)
            .envs(self.tls_environment("KAHN_COORDINATOR__TLS__", "coordinator"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(certs) = &self.certs {
            command.env("KAHN_COORDINATOR__TLS__CLIENT_CA_FILE", certs.file("ca.pem"));
        }
        Process::start(command, &at(&format!("{name}.log")))
    }

    pub(super) fn launch_worker(&self, number: usize, program: &Path) -> anyhow::Result<Process> {
        let (name, at) = (format!("w{number}"), |name: &str| self.dir.path().join(name));
        let mut command = Command::new(program);
        command
            .arg("worker")
            .env("KAHN_WORKER__PRESSURE__MODE", "off")
            .env("KAHN_WORKER__COORDINATOR", self.urls())
            .env("KAHN_WORKER__NAME", &name)
            .env("KAHN_WORKER__CAPACITY", "cpu=4 memory=4Gi")
            .env("KAHN_WORKER__DATA_DIR", at(&name))
            .env("KAHN_WORKER__TOKEN_FILE", at("worker.token"))
            .env("KAHN_WORKER__HEALTH__LISTEN", "127.0.0.1:0")
            .envs(self.clock_environment(&name)?)
            .envs(self.tls_environment("KAHN_WORKER__TLS__", "worker"));
        Process::start(command, &at(&format!("{name}.log")))
    }

    /// Starts one more coordinator, with a copy of the data directory of another one as it is now.
    /// Returns its index.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be copied, or the coordinator not started.
    pub fn start_copy(&mut self, ix: usize) -> anyhow::Result<usize> {
        let place = Place::find(
            format!("c{}", self.members.len()),
            self.members[ix].place.program.clone(),
        )?;
        let at = |name: &str| self.dir.path().join(name);
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(at(&self.members[ix].place.name)).arg(at(&place.name));
        anyhow::ensure!(copy.status()?.success(), "cannot copy a data directory");
        let process = self.launch(&place)?;
        self.members.push(Member { place, process });
        Ok(self.members.len() - 1)
    }

    fn clock_environment(&self, name: &str) -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
        let Some(clocks) = &self.clocks else { return Ok(Vec::new()) };
        Ok(clocks.environment(name)?.into())
    }

    pub(super) fn tls_environment(&self, prefix: &str, name: &str) -> Vec<(String, String)> {
        self.certs.as_ref().map(|certs| certs.environment(prefix, name)).unwrap_or_default()
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
}

/// Mounts the data directories of all processes, each with the name of its process.
fn mount(dir: &Path, n: usize, n_workers: usize) -> anyhow::Result<Vec<(String, SmallDisk)>> {
    let coordinators = (0..n).map(|number| (format!("c{number}"), DISK_MEBIBYTES));
    let workers = (0..n_workers).map(|number| (format!("w{number}"), DISK_MEBIBYTES));
    let redis = [("redis".to_owned(), REDIS_DISK_MEBIBYTES)];
    let all = coordinators.chain(workers).chain(redis);
    all.map(|(name, size)| Ok((name.clone(), SmallDisk::mount(&dir.join(name), size)?))).collect()
}
