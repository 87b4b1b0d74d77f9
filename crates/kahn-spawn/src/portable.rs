//! The implementation for any Unix.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, WaitId, WaitIdOptions};

use crate::pre_exec_limits::{NotStarted, PreExecLimits, limit};
use crate::program::Program;

const LOOK_PERIOD: Duration = Duration::from_millis(1);

/// Starts programs, one at a time.
#[derive(Debug)]
pub struct Launcher(());

impl Launcher {
    /// Creates a launcher.
    ///
    /// # Errors
    ///
    /// Never fails on this system.
    pub fn new() -> io::Result<Self> {
        Ok(Self(()))
    }

    /// Starts a program after it has applied `limits`. Its standard input is empty, and standard
    /// output and error are `output`.
    ///
    /// # Errors
    ///
    /// Returns the OS error of applying the limits, of the program or of its directory, or of
    /// creating the process.
    pub fn start(
        &mut self,
        program: &Program,
        output: BorrowedFd<'_>,
        limits: &PreExecLimits<'_>,
    ) -> Result<Child, NotStarted> {
        self.command(program, output, limits)
            .and_then(|mut command| command.spawn())
            .map(|child| Child { pid: Pid::from_child(&child) })
            .map_err(NotStarted::Program)
    }

    fn command(
        &self,
        program: &Program,
        output: BorrowedFd<'_>,
        limits: &PreExecLimits<'_>,
    ) -> io::Result<Command> {
        let mut argv = program.argv.iter();
        let mut command = Command::new(program.path.iter().next().unwrap_or_default());
        command
            .arg0(argv.next().unwrap_or_default())
            .args(argv)
            .env_clear()
            .current_dir(program.dir.iter().next().unwrap_or_default())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone_to_owned()?)
            .stderr(output.try_clone_to_owned()?);
        for variable in program.env.iter().map(OsStr::as_bytes) {
            let at = variable.iter().position(|byte| *byte == b'=').unwrap_or(variable.len());
            let value = variable.get(at + 1..).unwrap_or_default();
            command.env(OsStr::from_bytes(&variable[..at]), OsStr::from_bytes(value));
        }
        let held = PreExecLimits::<'static> {
            cgroup_procs: None,
            address_space: limits.address_space,
            processes: limits.processes,
        };
        if held.address_space.or(held.processes).is_some() {
            // SAFETY: the closure makes only system calls.
            unsafe { command.pre_exec(move || Ok(limit(&held)?)) };
        }
        Ok(command)
    }
}

/// A started process that has not been reaped. Dropping it neither ends nor reaps it.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
}

impl Child {
    /// Returns its id, which is also that of its process group.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end for at most `timeout` and returns whether it has ended. Does not reap it.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such child.
    pub fn has_ended_within(&self, timeout: Duration) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let mut left = timeout;
        loop {
            if rustix::process::waitid(WaitId::Pid(self.pid), options)?.is_some() {
                return Ok(true);
            }
            if left.is_zero() {
                return Ok(false);
            }
            thread::sleep(left.min(LOOK_PERIOD));
            left = left.saturating_sub(LOOK_PERIOD);
        }
    }

    /// Waits until it has ended or `pipe` is readable, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such child.
    pub fn wait_for_end_or_input(&self, pipe: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
        let mut left = timeout;
        while !self.has_ended_within(Duration::ZERO)? && !left.is_zero() {
            let mut watched = [PollFd::new(&pipe, PollFlags::IN)];
            let limit = Timespec::try_from(left.min(LOOK_PERIOD)).ok();
            if rustix::event::poll(&mut watched, limit.as_ref()).is_ok_and(|n| n > 0) {
                break;
            }
            left = left.saturating_sub(LOOK_PERIOD);
        }
        Ok(())
    }
}
