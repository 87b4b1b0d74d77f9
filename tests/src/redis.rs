//! A Redis server of the test's own.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::port::free_port;
use crate::process::Process;
use crate::wait::wait_until;

/// A running server, with its data in a directory of its own.
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
    /// When redis-server is not installed or does not answer.
    pub fn start(dir: PathBuf, appendfsync: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let port = free_port()?;
        let process = launch(&dir, port, appendfsync)?;
        let server = Self { process, port, dir, appendfsync: appendfsync.to_owned() };
        server.wait_until_up()?;
        Ok(server)
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Has it write a dump of all it holds beside its append-only file, readable as it is.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn dump(&self) -> anyhow::Result<()> {
        for command in [&["config", "set", "rdbcompression", "no"][..], &["save"]] {
            let mut asked = Command::new("redis-cli");
            let output = asked.args(["-p", &self.port.to_string()]).args(command).output()?;
            anyhow::ensure!(output.stdout.starts_with(b"OK"), "{command:?}: {output:?}");
        }
        Ok(())
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.process.kill9()
    }

    /// Starts it again on its data.
    ///
    /// # Errors
    ///
    /// When it does not answer.
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
