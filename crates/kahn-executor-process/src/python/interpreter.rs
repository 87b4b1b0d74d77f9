//! One interpreter, from its hello to its confirmed death.

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
use super::output::Output;
use super::request::Key;
use super::vitals::Vitals;
use crate::limits::LimitGuard;
use crate::scratch::{Scratch, Slot};
use crate::trees::Tree;
use kahn_platform::ExitWatch;

/// How long an interpreter that is not needed any more may take to end by itself.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);
/// An interpreter that waited for longer is asked for a sign of life before it is used.
const PING_AFTER: Duration = Duration::from_secs(1);
const PING_LIMIT: Duration = Duration::from_secs(2);

const HAS_LIFE: &str = "invariant: an interpreter has a process until it is ended";

/// An interpreter that waits for a call, or carries one out. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Interpreter {
    pub(super) key: Arc<Key>,
    pub(super) connection: Connection,
    pub(super) output: Arc<Output>,
    pub(super) vitals: Vitals,
    /// Processor time that it had used when it last replied.
    pub(super) cpu: Duration,
    pub(super) n_calls: u32,
    /// Bytes that it had read and written when its last call ended.
    io: (u64, u64),
    pub(super) idle_since: Instant,
    life: Option<Life>,
}

/// The process.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) child: Child,
    pub(super) tree: Tree,
    pub(super) watch: ExitWatch,
    pub(super) place: Place,
    pub(super) guard: LimitGuard,
}

/// Its scratch directory. Dropping it removes what is there, which blocks.
#[derive(Debug)]
pub(super) struct Place {
    scratch: Arc<Scratch>,
    slot: Slot,
}

impl Place {
    pub(super) fn take(scratch: &Arc<Scratch>) -> io::Result<Self> {
        Ok(Self { slot: scratch.take()?, scratch: Arc::clone(scratch) })
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.scratch.dir(self.slot)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.scratch.clear(self.slot);
    }
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct Death {
    status: ExitStatus,
    /// Processor time in its whole life.
    pub(super) cpu: Duration,
}

impl Death {
    pub(super) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    pub(super) fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
}

impl Interpreter {
    pub(super) fn new(key: Arc<Key>, connection: Connection, output: Output, life: Life) -> Self {
        Self {
            key,
            connection,
            output: Arc::new(output),
            vitals: Vitals::new(Pid::from_child(&life.child)),
            cpu: Duration::ZERO,
            n_calls: 0,
            io: (0, 0),
            idle_since: Instant::now(),
            life: Some(life),
        }
    }

    /// What a call needs at one time.
    pub(super) fn parts(&mut self) -> (&mut Connection, &Life) {
        let life = self.life.as_ref().expect(HAS_LIFE);
        (&mut self.connection, life)
    }

    pub(super) fn life(&self) -> &Life {
        self.life.as_ref().expect(HAS_LIFE)
    }

    /// What was read and written since the last count, now that so much was.
    pub(super) fn count_io(&mut self, now: Option<(u64, u64)>) -> (u64, u64) {
        let Some(now) = now else { return (0, 0) };
        let before = std::mem::replace(&mut self.io, now);
        (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1))
    }

    /// Where calls work that do not say where.
    pub(super) fn directory(&self) -> PathBuf {
        let scratch_dir = self.life().place.dir();
        match &self.key.working_dir {
            Some(dir) => scratch_dir.join(&**dir),
            None => scratch_dir,
        }
    }

    /// Holds it to what its next call asks for; says whether it can be.
    pub(super) fn apply_limits(&mut self, resources: &Resources) -> bool {
        let guard = &mut self.life.as_mut().expect(HAS_LIFE).guard;
        let is_held = guard.change(resources).is_ok();
        guard.forget_kills();
        is_held
    }

    /// What holds it, which has just looked whether it ran out of memory.
    pub(super) fn refresh_guard(&mut self) -> &LimitGuard {
        let guard = &mut self.life.as_mut().expect(HAS_LIFE).guard;
        guard.update_kill_count();
        guard
    }

    pub(super) fn is_dead(&self) -> bool {
        let pid = Pid::from_child(&self.life().child);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(None))
    }

    /// Whether it can be handed a call.
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

    /// Makes the scratch directory as empty as it was.
    pub(super) async fn tidy(&self) -> io::Result<()> {
        let Place { scratch, slot } = &self.life().place;
        if scratch.is_pristine(*slot) {
            return Ok(());
        }
        let (scratch, slot) = (Arc::clone(scratch), *slot);
        let renewed = tokio::task::spawn_blocking(move || scratch.renew(slot)).await;
        renewed.map_err(io::Error::other)?
    }

    /// Kills it and all that descends from it, and returns when they are dead. Goes on when the
    /// returned future is dropped. What was printed is still in the pipe.
    pub(super) async fn kill(mut self) -> io::Result<Death> {
        let life = self.life.take().expect(HAS_LIFE);
        tokio::spawn(end(life, Duration::ZERO)).await.map_err(io::Error::other)?
    }

    /// Lets it end by itself, in the background, or kills it if it does not.
    pub(super) fn retire(mut self) {
        if let Some(life) = self.life.take() {
            tracing::debug!(n_calls = self.n_calls, "an interpreter is not needed any more");
            tokio::spawn(end(life, EXIT_TIMEOUT));
        }
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        let Some(mut life) = self.life.take() else { return };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(end(life, Duration::ZERO))),
            Err(_) => {
                // The process that is being killed needs no more than a moment.
                let _ = life.tree.reap_leader(Pid::from_child(&life.child));
            }
        }
    }
}

/// Waits for the end of a process, brings it about when that takes longer than `exit_timeout`, and
/// then kills whatever descends from it.
async fn end(mut life: Life, exit_timeout: Duration) -> io::Result<Death> {
    if !exit_timeout.is_zero() {
        // Whether it has ended by then shows below.
        let _ = tokio::time::timeout(exit_timeout, life.watch.died()).await;
    }
    life.tree.signal(Signal::KILL);
    life.watch.died().await;
    let reaped = life.tree.reap_leader(Pid::from_child(&life.child))?;
    life.guard.kill_rest().await;
    life.tree.kill_rest().await;
    let place = life.place;
    if let Err(error) = tokio::task::spawn_blocking(move || drop(place)).await {
        tracing::warn!(%error, "scratch directory stays behind");
    }
    Ok(Death { status: reaped.status, cpu: reaped.user + reaped.system })
}
