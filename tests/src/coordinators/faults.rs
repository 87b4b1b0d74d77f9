//! Harms the processes of a cluster.

use std::time::Duration;

use super::{Cable, Coordinators, Part, TIMEOUT};
use crate::process::Process;
use crate::wire::Condition;

impl Coordinators {
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

    /// Returns the processor time that a process has used.
    ///
    /// # Errors
    ///
    /// Returns an error if the process has ended.
    pub fn cpu(&mut self, part: Part) -> anyhow::Result<Duration> {
        self.process(part).cpu()
    }
}
