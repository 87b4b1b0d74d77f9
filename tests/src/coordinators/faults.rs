//! Harms the processes of a cluster.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::{Cable, Coordinators, Part, TIMEOUT};
use crate::process::Process;
use crate::replicated::Failover;
use crate::small_disk::SmallDisk;
use crate::wire::Condition;

impl Coordinators {
    fn process(&mut self, part: Part) -> &mut Process {
        match part {
            Part::Coordinator(ix) => &mut self.members[ix].process,
            Part::Worker(ix) => &mut self.workers[ix].process,
            Part::Redis => self.servers.single().process(),
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
            Part::Worker(ix) => {
                self.workers[ix].process = self.launch_worker(ix, &self.workers[ix].program)?;
            }
            Part::Redis => self.servers.single().restart()?,
        }
        Ok(())
    }

    /// Sets the program that the next [restart](Self::restart) of a coordinator or worker starts.
    pub fn set_program(&mut self, part: Part, program: &Path) {
        match part {
            Part::Coordinator(ix) => program.clone_into(&mut self.members[ix].place.program),
            Part::Worker(ix) => program.clone_into(&mut self.workers[ix].program),
            Part::Redis => {}
        }
    }

    /// Removes everything in the data directory of a coordinator that has ended.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be removed.
    pub fn remove_data(&self, ix: usize) -> anyhow::Result<()> {
        let dir = self.dir.path().join(&self.members[ix].place.name);
        // The directory itself may be a disk of its own.
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                std::fs::remove_dir_all(path)?;
            } else {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Changes the state of connections of a cluster [with
    /// wires](Self::start_with_wires).
    ///
    /// # Panics
    ///
    /// Panics if the cluster has none, or Redis consists of several servers.
    pub fn set_condition(&self, cable: Cable, condition: Condition) {
        let (Cable::Front(ix) | Cable::Store(ix)) = cable;
        let wires = self.members[ix].place.wires.as_ref().expect("a cluster with wires");
        match cable {
            Cable::Front(_) => wires.front.set(condition),
            Cable::Store(_) => wires.store.as_ref().expect("one server").set(condition),
        }
    }

    /// Returns the processor time that a process has used.
    ///
    /// # Errors
    ///
    /// Returns an error if the process has ended.
    pub fn cpu(&mut self, part: Part) -> anyhow::Result<Duration> {
        self.process(part).cpu()
    }

    /// Fills the disk with the data directory of a process, in a cluster with small disks.
    ///
    /// # Errors
    ///
    /// Returns an error if the process has no disk of its own.
    pub(crate) fn fill_disk(&self, part: Part) -> anyhow::Result<()> {
        self.disk(part)?.fill()
    }

    /// Frees a disk that was filled.
    ///
    /// # Errors
    ///
    /// Returns an error if it was not filled.
    pub(crate) fn free_disk(&self, part: Part) -> anyhow::Result<()> {
        self.disk(part)?.free()
    }

    fn disk(&self, part: Part) -> anyhow::Result<&SmallDisk> {
        let name = name(part);
        let found = self.disks.iter().find(|(of, _)| *of == name);
        Ok(&found.with_context(|| format!("{name} has no disk of its own"))?.1)
    }

    /// Sets how many milliseconds the wall clock of a process is ahead, or behind if negative, in a
    /// cluster with clocks.
    ///
    /// # Errors
    ///
    /// Returns an error if the process has no clock of its own.
    pub(crate) fn step_clock(&self, part: Part, ahead_ms: i64) -> anyhow::Result<()> {
        let name = name(part);
        let clocks = self.clocks.as_ref();
        clocks.with_context(|| format!("{name} has no clock of its own"))?.set(&name, ahead_ms)
    }

    /// Begins to replace the master of a partition, in a cluster whose Redis has replicas.
    ///
    /// # Errors
    ///
    /// Returns an error if a server cannot be harmed.
    pub(crate) fn begin_failover(&mut self, how: Failover, partition: u16) -> anyhow::Result<()> {
        self.servers.replicated().begin(how, partition)
    }

    /// Waits until the master was replaced, and brings it back as a replica.
    ///
    /// # Errors
    ///
    /// Returns an error if that takes too long.
    pub(crate) fn end_failover(&mut self) -> anyhow::Result<()> {
        self.servers.replicated().end()
    }
}

/// Returns the name of a process, which is also that of its data directory.
fn name(part: Part) -> String {
    match part {
        Part::Coordinator(ix) => format!("c{ix}"),
        Part::Worker(ix) => format!("w{ix}"),
        Part::Redis => "redis".to_owned(),
    }
}
