//! `run` and `exec`: a process on the worker's host.
//!
//! The life of an attempt: a scratch directory is taken from the pool, the program is started as
//! the leader of its own process group, its output is pumped into the log, and when it has ended
//! or was asked to, everything that it left behind is killed and confirmed dead. Only then are
//! its outputs read and the report given.
//!
//! The parts are cheap for short tasks, since their cost adds to every one of them: a start takes
//! little more than the system takes for it, the scratch directory of a task that left nothing in
//! it serves the next, a silent task makes no log file, and a look for stray processes is one read
//! of a list that is nearly always empty.

mod capture;
pub(super) mod command;
mod starters;
mod supervise;
mod usage;

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use kahn_model::{ActionKind, Cause, CauseKind, Failure, Usage};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::scratch::Scratch;
use crate::trees::{self, Trees};
use crate::{OpenError, ProcessSettings};
use kahn_executor::{Assignment, Control, Executor, Report};
use starters::StarterPool;
pub(super) use supervise::signal_name;
use supervise::{Host, Progress};

/// Most threads that start processes, for each processor: such a thread mostly waits, for the new
/// process to be loaded and for its end, and with too few the processors idle.
const STARTERS_PER_CPU: usize = 8;
const N_STARTERS_MIN: usize = 16;

/// Carries out `run` and `exec`.
#[derive(Clone, Debug)]
pub struct ProcessExecutor {
    /// Before the lanes, whose end is waited for.
    _close_on_drop: Arc<DropGuard>,
    host: Arc<Host>,
    starters: Arc<StarterPool>,
}

impl ProcessExecutor {
    /// An executor whose process adopts, from now on, the orphans of all its descendants.
    ///
    /// Kills the processes and removes the files that an earlier boot of this worker left.
    /// The program around it starts no child in a process group of its own from its main
    /// thread: such a child would be taken for an orphan.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is in the way.
    pub fn open(settings: ProcessSettings) -> Result<Self, OpenError> {
        kahn_platform::adopt_orphans().map_err(|source| OpenError::Adopt { source })?;
        let scratch = Arc::new(Scratch::open(&settings.scratch_dir)?);
        let n_killed = trees::kill_leftovers(scratch.root());
        if n_killed > 0 {
            tracing::warn!(n_killed, "killed processes that an earlier boot left");
        }
        usage::update_own_peak();
        let trees = Trees::shared(scratch.root());
        let n_cpus = thread::available_parallelism().map_or(1, NonZero::get);
        let n_starters = (n_cpus * STARTERS_PER_CPU).max(N_STARTERS_MIN);
        let starters =
            StarterPool::start(n_starters).map_err(|source| OpenError::Threads { source })?;
        let is_closed = CancellationToken::new();
        let _close_on_drop = Arc::new(is_closed.clone().drop_guard());
        let host = Arc::new(Host { settings, scratch, trees, is_closed });
        Ok(Self { host, starters: Arc::new(starters), _close_on_drop })
    }
}

#[async_trait]
impl Executor for ProcessExecutor {
    fn kind(&self) -> ActionKind {
        ActionKind::Process
    }

    /// As the trait says. When the returned future is dropped, the attempt is killed without
    /// grace in the background. When the executor itself is dropped, so are the attempts: their
    /// process groups are killed, and nothing is confirmed.
    async fn run(&self, assignment: Assignment, control: Control) -> Report {
        let abandoned = CancellationToken::new();
        let _abandon_on_drop = abandoned.clone().drop_guard();
        let (reply, begun) = oneshot::channel();
        let (host, runtime) = (Arc::clone(&self.host), Handle::current());
        self.starters.carry_out(Box::new(move |starter| {
            // When nobody waits for it any more, what goes on knows that.
            drop(reply.send(host.begin(starter, &runtime, assignment, control, abandoned)));
        }));
        let report = match begun.await {
            Ok(Progress::Finished(report)) => Ok(report),
            Ok(Progress::StillRunning(rest)) => rest.await.map_err(|error| error.to_string()),
            Err(_) => Err("its thread gave up".to_owned()),
        };
        report.unwrap_or_else(|error| Report {
            outcome: Err(gave_up(&format!("worker could not finish the attempt: {error}"))),
            usage: Usage::default(),
        })
    }
}

/// On what thread an attempt is, which says where it may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunsOn {
    /// On its lane, which has nothing else to do. It may be in the attempt's control group, where a
    /// thread that it started would stay.
    Starter,
    /// On a thread of the runtime, which has.
    Runtime,
}

impl RunsOn {
    /// Does what may block.
    pub(crate) async fn block<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        match self {
            Self::Starter => Ok(work()),
            Self::Runtime => tokio::task::spawn_blocking(work).await.map_err(io::Error::other),
        }
    }
}

/// The worker, not the task, is at fault, and another worker may do better: no descriptors, no
/// memory, no disk.
pub(super) fn gave_up(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::Preempted), message)
}
