//! A Redis server for one test.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::port::free_port;
use crate::process::Process;
use crate::wait::wait_until;

/// A running server with its own data directory.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    port: u16,
    dir: PathBuf,
    appendfsync: String,
}

impl RedisServer {
    /// Starts a server with an append-only file; `appendfsync` is `everysec` or `always`.
    ///
    /// # Errors
    ///
    /// Returns an error if redis-server is not installed or does not answer.
    pub fn start(dir: PathBuf, appendfsync: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let port = free_port()?;
        let process = launch(&dir, port, appendfsync)?;
        let server = Self { process, port, dir, appendfsync: appendfsync.to_owned() };
        server.wait_until_up()?;
        Ok(server)
    }

    /// Returns the URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Writes an uncompressed dump of all data, which can be searched, beside the append-only file.
    ///
    /// # Errors
    ///
    /// Returns an error if Redis cannot write it.
    pub fn dump(&self) -> anyhow::Result<()> {
        for command in [&["config", "set", "rdbcompression", "no"][..], &["save"]] {
            let mut asked = Command::new("redis-cli");
            let output = asked.args(["-p", &self.port.to_string()]).args(command).output()?;
            anyhow::ensure!(output.stdout.starts_with(b"OK"), "{command:?}: {output:?}");
        }
        Ok(())
    }

    /// Returns its process.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills the server with SIGKILL.
    ///
    /// # Errors
    ///
    /// Returns an error if a system call fails.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.process.kill9()
    }

    /// Restarts the server with its existing data.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not answer.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process = launch(&self.dir, self.port, &self.appendfsync)?;
        self.wait_until_up()
    }

    fn wait_until_up(&self) -> anyhow::Result<()> {
        wait_until("redis-server to answer", Duration::from_secs(20), || {
            Command::new("redis-cli")
                .args(["-p", &self.port.to_string(), "ping"])
                .stderr(Stdio::null())
                .output()
                .is_ok_and(|output| output.stdout.starts_with(b"PONG"))
        })
    }
}

fn launch(dir: &std::path::Path, port: u16, appendfsync: &str) -> anyhow::Result<Process> {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", appendfsync])
        .args(["--maxmemory-policy", "noeviction"])
        .arg("--dir")
        .arg(dir);
    Process::start(command, &dir.join("redis.log"))
}
