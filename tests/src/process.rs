//! A process that a test starts, observes and kills.

use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait::wait_until;

/// A running process, which is killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program with its output redirected to `log`.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be started.
    pub fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn()?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Starts a program with its standard output and standard error redirected to separate files.
    /// [`printed`](Self::printed) returns the former.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be started.
    pub fn start_split(mut command: Command, out: &Path, err: &Path) -> anyhow::Result<Self> {
        let (stdout, stderr) = (File::create(out)?, File::create(err)?);
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn()?;
        Ok(Self { child, log: out.to_owned() })
    }

    /// Starts a server with its output redirected to `log`, and waits until it listens on `port` of
    /// the loopback interface.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be started or does not listen in time.
    pub fn start_server(command: Command, log: &Path, port: u16) -> anyhow::Result<Self> {
        let mut server = Self::start(command, log)?;
        // Connects instead of binding, because binding would take the port from the server. The
        // port is below the ephemeral range, where a connection could connect to itself.
        wait_until("the server to listen", Duration::from_secs(20), || {
            !server.is_running() || TcpStream::connect(("127.0.0.1", port)).is_ok()
        })?;
        anyhow::ensure!(server.is_running(), "the server has ended: {}", server.printed());
        Ok(server)
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the processor time that the process has used, from `/proc`.
    ///
    /// # Errors
    ///
    /// Returns an error if the process has ended.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        // The fields after the name, which may contain spaces. Times are in hundredths of seconds.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let ticks: Result<Vec<u64>, _> = fields.skip(11).take(2).map(str::parse).collect();
        Ok(Duration::from_millis(10 * ticks?.iter().sum::<u64>()))
    }

    /// Kills the process with SIGKILL, and waits for its exit.
    ///
    /// # Errors
    ///
    /// Returns an error if a system call fails.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends a signal by name, such as `TERM`.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such process or signal.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status()?;
        anyhow::ensure!(status.success(), "kill -{name} {}", self.id());
        Ok(())
    }

    /// Waits for its exit and returns the exit code.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not exit in time.
    pub fn wait(&mut self, timeout: Duration) -> anyhow::Result<i32> {
        let mut code = None;
        wait_until("the process to end", timeout, || {
            code = self.child.try_wait().ok().flatten().map(|status| status.code().unwrap_or(-1));
            code.is_some()
        })?;
        Ok(code.unwrap_or(-1))
    }

    /// Returns whether the process is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Returns the output so far.
    #[must_use]
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may already have exited.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
