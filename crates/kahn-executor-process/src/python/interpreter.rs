//! An interpreter process, from its hello until it is confirmed dead.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use kahn_model::Resources;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::connection::Connection;
use super::memory_stats::MemoryStats;
use super::output::Output;
use super::request::Key;
use crate::limits::LimitGuard;
use crate::scratch::{Scratch, Slot};
use crate::trees::Tree;
use kahn_platform::ExitWatch;

/// How long a retired interpreter may take to end by itself.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);
/// An interpreter that was idle for longer than this is pinged before it is used.
const PING_AFTER: Duration = Duration::from_secs(1);
const PING_LIMIT: Duration = Duration::from_secs(2);

const HAS_PROCESS: &str = "invariant: an interpreter has a process until it is ended";

/// An interpreter that is idle or executes a call. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Interpreter {
    pub(super) key: Arc<Key>,
    pub(super) connection: Connection,
    pub(super) output: Arc<Output>,
    pub(super) memory_stats: MemoryStats,
    /// CPU time used by the time of the last reply.
    pub(super) cpu: Duration,
    pub(super) n_calls: u32,
    /// Bytes read and written by the end of the last call.
    io: (u64, u64),
    pub(super) idle_since: Instant,
    process: Option<InterpreterProcess>,
}

/// The interpreter's process and its resources.
#[derive(Debug)]
pub(super) struct InterpreterProcess {
    pub(super) child: Child,
    pub(super) tree: Tree,
    pub(super) watch: ExitWatch,
    pub(super) scratch_dir: ScratchDir,
    pub(super) guard: LimitGuard,
}

/// The interpreter's scratch directory. Dropping it removes the directory, which blocks.
#[derive(Debug)]
pub(super) struct ScratchDir {
    scratch: Arc<Scratch>,
    slot: Slot,
}

impl ScratchDir {
    pub(super) fn take(scratch: &Arc<Scratch>) -> io::Result<Self> {
        Ok(Self { slot: scratch.take()?, scratch: Arc::clone(scratch) })
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.scratch.dir(self.slot)
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        self.scratch.clear(self.slot);
    }
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct ProcessExit {
    status: ExitStatus,
    /// CPU time of its whole lifetime.
    pub(super) cpu: Duration,
}

impl ProcessExit {
    pub(super) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    pub(super) fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
}

impl Interpreter {
    pub(super) fn new(
        key: Arc<Key>,
        connection: Connection,
        output: Output,
        process: InterpreterProcess,
    ) -> Self {
        Self {
            key,
            connection,
            output: Arc::new(output),
            memory_stats: MemoryStats::new(Pid::from_child(&process.child)),
            cpu: Duration::ZERO,
            n_calls: 0,
            io: (0, 0),
            idle_since: Instant::now(),
            process: Some(process),
        }
    }

    /// Borrows the connection and the process at the same time.
    pub(super) fn parts(&mut self) -> (&mut Connection, &InterpreterProcess) {
        let process = self.process.as_ref().expect(HAS_PROCESS);
        (&mut self.connection, process)
    }

    pub(super) fn process(&self) -> &InterpreterProcess {
        self.process.as_ref().expect(HAS_PROCESS)
    }

    /// Returns the bytes read and written since the previous count, given the current totals.
    pub(super) fn count_io(&mut self, now: Option<(u64, u64)>) -> (u64, u64) {
        let Some(now) = now else { return (0, 0) };
        let before = std::mem::replace(&mut self.io, now);
        (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1))
    }

    /// Returns the working directory of calls.
    pub(super) fn directory(&self) -> PathBuf {
        let scratch_dir = self.process().scratch_dir.dir();
        match &self.key.working_dir {
            Some(dir) => scratch_dir.join(&**dir),
            None => scratch_dir,
        }
    }

    /// Applies the limits of the next call. Returns whether they can be enforced.
    pub(super) fn apply_limits(&mut self, resources: &Resources) -> bool {
        let guard = &mut self.process.as_mut().expect(HAS_PROCESS).guard;
        let is_held = guard.change(resources).is_ok();
        guard.forget_kills();
        is_held
    }

    /// Returns the limit guard, with its kill count updated.
    pub(super) fn refresh_guard(&mut self) -> &LimitGuard {
        let guard = &mut self.process.as_mut().expect(HAS_PROCESS).guard;
        guard.update_kill_count();
        guard
    }

    pub(super) fn is_dead(&self) -> bool {
        let pid = Pid::from_child(&self.process().child);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(None))
    }

    /// Returns whether the interpreter can take a call.
    pub(super) async fn is_healthy(&mut self) -> bool {
        if self.is_dead() {
            return false;
        }
        if self.idle_since.elapsed() < PING_AFTER {
            return true;
        }
        self.output.discard();
        let pong = tokio::time::timeout(PING_LIMIT, self.connection.ping()).await;
        matches!(pong, Ok(Ok(())))
    }

    /// Empties the scratch directory.
    pub(super) async fn clear_scratch(&self) -> io::Result<()> {
        let ScratchDir { scratch, slot } = &self.process().scratch_dir;
        if scratch.is_pristine(*slot) {
            return Ok(());
        }
        let (scratch, slot) = (Arc::clone(scratch), *slot);
        let renewed = tokio::task::spawn_blocking(move || scratch.renew(slot)).await;
        renewed.map_err(io::Error::other)?
    }

    /// Kills the interpreter and all its descendants, and waits until they are dead. Continues in
    /// the background if the returned future is dropped. Unread output stays in the pipe.
    pub(super) async fn kill(mut self) -> io::Result<ProcessExit> {
        let process = self.process.take().expect(HAS_PROCESS);
        tokio::spawn(end(process, Duration::ZERO)).await.map_err(io::Error::other)?
    }

    /// Lets the interpreter end by itself in the background, and kills it after a timeout.
    pub(super) fn retire(mut self) {
        if let Some(process) = self.process.take() {
            tracing::debug!(n_calls = self.n_calls, "retiring an interpreter");
            tokio::spawn(end(process, EXIT_TIMEOUT));
        }
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(end(process, Duration::ZERO))),
            Err(_) => {
                // Blocks only briefly, since the process is being killed.
                let _ = process.tree.reap_leader(Pid::from_child(&process.child));
            }
        }
    }
}

/// Waits for a process to end, kills it after `exit_timeout`, and then kills its descendants.
async fn end(mut process: InterpreterProcess, exit_timeout: Duration) -> io::Result<ProcessExit> {
    if !exit_timeout.is_zero() {
        // A process that has not ended by now is killed below.
        let _ = tokio::time::timeout(exit_timeout, process.watch.died()).await;
    }
    process.tree.signal(Signal::KILL);
    process.watch.died().await;
    let reaped = process.tree.reap_leader(Pid::from_child(&process.child))?;
    process.guard.kill_rest().await;
    process.tree.kill_rest().await;
    let scratch_dir = process.scratch_dir;
    if let Err(error) = tokio::task::spawn_blocking(move || drop(scratch_dir)).await {
        tracing::warn!(%error, "cannot remove scratch directory");
    }
    Ok(ProcessExit { status: reaped.status, cpu: reaped.user + reaped.system })
}
