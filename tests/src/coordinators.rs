//! Several coordinators on one Redis server, and workers that know all of them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::binary::{Answer, kahn, kahn_path};
use crate::history::History;
use crate::http::metric;
use crate::port::free_port;
use crate::process::Process;
use crate::redis::RedisServer;
use crate::wait::{wait_for, wait_until};

/// How long to wait for anything that is not measured.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The number of lines of output to show of each process.
const LINES_SHOWN: usize = 50;

#[derive(Debug)]
struct Member {
    name: String,
    process: Process,
    port: u16,
    health_port: u16,
}

impl Member {
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// A cluster with standbys.
#[derive(Debug)]
pub struct Coordinators {
    dir: TempDir,
    redis: RedisServer,
    members: Vec<Member>,
    workers: Vec<Process>,
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

impl Coordinators {
    /// Starts this many coordinators and workers, and waits until one of the coordinators leads,
    /// the others stand by, and the workers are attached.
    ///
    /// # Errors
    ///
    /// Returns an error if a process does not start or become ready.
    pub fn start(n: usize, n_workers: usize) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let redis = RedisServer::start(dir.path().join("redis"), "everysec")?;
        let mut cluster = Self { dir, redis, members: Vec::new(), workers: Vec::new() };
        cluster.write_tokens()?;
        for number in 0..n {
            let (port, health_port) = (free_port()?, free_port()?);
            let name = format!("c{number}");
            let process = cluster.launch(&name, port, health_port)?;
            cluster.members.push(Member { name, process, port, health_port });
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

    fn launch(&self, name: &str, port: u16, health_port: u16) -> anyhow::Result<Process> {
        let at = |name: &str| self.dir.path().join(name);
        let mut command = Command::new(kahn_path());
        command
            .arg("coordinator")
            .env("KAHN_COORDINATOR__LISTEN", format!("127.0.0.1:{port}"))
            .env("KAHN_COORDINATOR__HEALTH__LISTEN", format!("127.0.0.1:{health_port}"))
            .env("KAHN_COORDINATOR__DATA_DIR", at(name))
            .env("KAHN_COORDINATOR__CLIENT_TOKEN_FILE", at("client.token"))
            .env("KAHN_COORDINATOR__WORKER_TOKEN_FILE", at("worker.token"))
            .env("KAHN_COORDINATOR__STORE__URL", self.redis.url())
            .env("KAHN_COORDINATOR__LEADER_TTL", "2s");
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
            .env("KAHN_WORKER__HEALTH__LISTEN", "127.0.0.1:0");
        Process::start(command, &at(&format!("{name}.log")))
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
        metric(self.members[ix].health_port, &gauge).is_ok_and(|value| value > 0.0)
    }

    /// Waits until a coordinator has this role.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not have it in time.
    pub fn wait_for_role(&self, ix: usize, role: &str) -> anyhow::Result<()> {
        let name = &self.members[ix].name;
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
                let Member { name, port, health_port, .. } = &self.members[ix];
                self.members[ix].process = self.launch(name, *port, *health_port)?;
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
        Ok(std::fs::remove_dir_all(self.dir.path().join(&self.members[ix].name))?)
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
        self.members[ix].url()
    }

    /// Returns the URLs of all coordinators.
    #[must_use]
    pub fn urls(&self) -> String {
        self.members.iter().map(Member::url).collect::<Vec<_>>().join(",")
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
            .into()
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
