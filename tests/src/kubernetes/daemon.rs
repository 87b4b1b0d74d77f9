//! The processes of the cluster.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::process::Process;

/// How long a process may take to end on request.
const END_WITHIN: Duration = Duration::from_secs(5);

/// A process of the cluster, which is asked to end on drop, and then killed.
#[derive(Debug)]
pub(super) struct Daemon(Process);

impl Daemon {
    /// Starts a process with its output in `dir/NAME.log`.
    pub(super) fn start(dir: &Path, name: &str, command: Command) -> anyhow::Result<Self> {
        let process = Process::start(command, &dir.join(format!("{name}.log")));
        Ok(Self(process.with_context(|| format!("cannot start {name}"))?))
    }

    /// Sends a signal by name.
    pub(super) fn signal(&self, name: &str) -> anyhow::Result<()> {
        self.0.signal(name)
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.0.is_running()
    }

    /// Returns an error with its output if the process has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        ensure!(self.is_running(), "a process has ended: {}", self.0.printed());
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It is killed if it does not end, or has ended already. It may be paused.
        drop(self.0.signal("TERM"));
        drop(self.0.signal("CONT"));
        drop(self.0.wait(END_WITHIN));
    }
}
