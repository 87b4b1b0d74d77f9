//! A container engine for the tests: a private Docker daemon on its own socket.
//!
//! For the tests of tasks, it has no network and does not change the firewall of the host. Existing engines are not used,
//! because tests remove containers.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::machine;
use crate::process::{print_error, say, succeeds, variable};

/// The variable that tells the tests the socket of an engine.
pub(crate) const VARIABLE: &str = "KAHN_TEST_ENGINE";

const POLL: Duration = Duration::from_millis(100);
const N_POLLS_MAX: u32 = 600;

/// An engine for tests. If it was started here, it is stopped on drop.
#[derive(Debug)]
pub(crate) struct Engine {
    socket: OsString,
    _daemon: Option<Daemon>,
}

impl Engine {
    /// Returns the socket to pass to the tests.
    pub(crate) fn socket(&self) -> &OsString {
        &self.socket
    }
}

/// Returns the engine named by the caller, or starts a private one.
pub(crate) fn ensure_engine() -> Result<Engine> {
    if let Some(socket) = variable(VARIABLE) {
        return Ok(Engine { socket, _daemon: None });
    }
    if !succeeds("dockerd", &["--version"]) {
        if !Path::new("/etc/debian_version").exists() || !machine::may_install() {
            bail!("there is no dockerd; install Docker, or name an engine's socket in {VARIABLE}");
        }
        machine::install("docker.io", "dockerd")?;
    }
    if !machine::is_root() {
        bail!("only root may start dockerd; name the socket of an engine in {VARIABLE}");
    }
    start(&["--iptables=false", "--bridge=none"])
}

/// Starts a private engine whose containers have networks, which changes the firewall of the host.
pub(crate) fn with_networks() -> Result<Engine> {
    // Not the usual one, which another engine may have.
    start(&["--bip=10.199.0.1/24"])
}

fn start(options: &[&str]) -> Result<Engine> {
    let daemon = Daemon::start(options)?;
    Ok(Engine { socket: daemon.socket().into(), _daemon: Some(daemon) })
}

#[derive(Debug)]
struct Daemon {
    dir: PathBuf,
    child: Child,
}

impl Daemon {
    fn start(options: &[&str]) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("kahn-engine-{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let log = File::create(dir.join("log"))?;
        let mut command = Command::new("dockerd");
        command.args(options);
        command.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
        command.arg("--pidfile").arg(dir.join("pid"));
        command.arg("-H").arg(format!("unix://{}", socket(&dir).display()));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        say("starting a container engine for the tests\n");
        let child = command.spawn().context("cannot start dockerd")?;
        let mut daemon = Self { dir, child };
        daemon.wait()?;
        Ok(daemon)
    }

    fn socket(&self) -> PathBuf {
        socket(&self.dir)
    }

    fn wait(&mut self) -> Result<()> {
        for _ in 0..N_POLLS_MAX {
            if answers(&self.socket()) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("dockerd ended with {status}: {}", self.last_words());
            }
            std::thread::sleep(POLL); // poll
        }
        bail!("dockerd does not answer: {}", self.last_words())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        log.lines().next_back().unwrap_or_default().to_owned()
    }

    fn has_ended(&mut self) -> bool {
        (0..N_POLLS_MAX).any(|_| {
            let has_ended = !matches!(self.child.try_wait(), Ok(None));
            if !has_ended {
                std::thread::sleep(POLL); // poll
            }
            has_ended
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Uses SIGTERM instead of SIGKILL, because it has to clean up processes and mounts.
        let pid = self.child.id().to_string();
        if !succeeds("kill", &["-TERM", &pid]) || !self.has_ended() {
            print_error("dockerd does not end; killing it");
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            print_error(&format!("{} stays behind: {error}", self.dir.display()));
        }
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("docker.sock")
}

/// Returns whether an engine answers at this socket.
fn answers(socket: &Path) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(POLL * 50))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.lines().next().is_some_and(|status| status.contains(" 200 ")))
    };
    ask().unwrap_or(false)
}
