//! Several coordinators on one Redis, and workers that know all of them.

mod client;
mod faults;
mod launch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::binary::kahn_path;
use crate::certs::Certs;
use crate::clocks::Clocks;
use crate::http::metric;
use crate::process::Process;
use crate::servers::Servers;
use crate::small_disk::SmallDisk;
use crate::wait::{wait_for, wait_until};
use launch::Place;

pub(crate) use launch::Variant;

/// How long to wait for anything that is not measured.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The number of lines of output to show of each process.
const LINES_SHOWN: usize = 50;

#[derive(Debug)]
struct Member {
    place: Place,
    process: Process,
}

#[derive(Debug)]
struct Worker {
    program: PathBuf,
    process: Process,
}

/// The programs of a cluster, each `kahn` in some version.
#[derive(Clone, Debug)]
pub struct Programs {
    /// That of the coordinators.
    pub coordinators: PathBuf,
    /// That of the workers.
    pub workers: PathBuf,
}

impl Default for Programs {
    /// This version.
    fn default() -> Self {
        Self { coordinators: kahn_path(), workers: kahn_path() }
    }
}

/// A cluster with standbys.
///
/// Fields are dropped in this order: processes end before their disks are unmounted, and the
/// directory is removed last.
#[derive(Debug)]
pub struct Coordinators {
    members: Vec<Member>,
    workers: Vec<Worker>,
    servers: Servers,
    /// The disks of processes, by name; empty if they have none of their own.
    disks: Vec<(String, SmallDisk)>,
    clocks: Option<Clocks>,
    certs: Option<Certs>,
    /// Configuration of all coordinators, as environment variables.
    environment: Vec<(String, String)>,
    dir: TempDir,
}

/// A process of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The coordinator with this number.
    Coordinator(usize),
    /// The worker with this number, named `w` and the number.
    Worker(usize),
    /// The Redis server, if it is the only one.
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

impl Coordinators {
    /// Returns the certificates, if the cluster has any.
    #[must_use]
    pub fn certs(&self) -> Option<&Certs> {
        self.certs.as_ref()
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

    /// Returns the URL of a coordinator.
    #[must_use]
    pub fn url(&self, ix: usize) -> String {
        self.url_of(&self.members[ix].place)
    }

    fn url_of(&self, place: &Place) -> String {
        let scheme = if self.certs.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", place.front_port())
    }

    /// Returns the URLs of all coordinators.
    #[must_use]
    pub fn urls(&self) -> String {
        (0..self.members.len()).map(|ix| self.url(ix)).collect::<Vec<_>>().join(",")
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
        let workers = self.workers.iter().map(|worker| &worker.process);
        let tail = |process: &Process| {
            let printed = process.printed();
            let lines: Vec<&str> = printed.lines().rev().take(LINES_SHOWN).collect();
            lines.into_iter().rev().map(|line| format!("{line}\n")).collect::<String>()
        };
        coordinators.chain(workers).map(tail).collect()
    }
}
