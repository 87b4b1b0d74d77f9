//! Executes `run` and `exec` as processes on the worker's host.
//!
//! An attempt takes a scratch directory from the pool and starts the program as the leader of its
//! own process group, with its output copied into the log. When the program has ended, all
//! remaining processes of the attempt are killed and confirmed dead. Only then are its outputs read
//! and the report returned.
//!
//! The overhead per attempt is kept low because most tasks are short: starting costs little more
//! than the system calls, an unused scratch directory is reused, a task without output creates no
//! log file, and the check for stray processes reads one list that is almost always empty.

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
use kahn_executor::failure::worker_fault;
use kahn_model::{ActionKind, Usage};
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

/// The maximum number of starter threads per CPU. Such a thread mostly waits for a process to be
/// loaded or to end, so with too few of them CPUs would idle.
const STARTERS_PER_CPU: usize = 8;
const N_STARTERS_MIN: usize = 16;

/// Executes `run` and `exec`.
#[derive(Clone, Debug)]
pub struct ProcessExecutor {
    /// Declared before `starters`, whose drop waits for its threads.
    _close_on_drop: Arc<DropGuard>,
    host: Arc<Host>,
    starters: Arc<StarterPool>,
}

impl ProcessExecutor {
    /// Opens an executor. From now on this process adopts the orphans of all its descendants.
    ///
    /// Kills the processes and removes the files left by an earlier boot of this worker. The
    /// calling program must not start children in process groups of their own from its main thread,
    /// because they would be mistaken for orphans.
    ///
    /// # Errors
    ///
    /// Returns an [`OpenError`] if the executor cannot be set up.
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

    /// See the trait. Dropping the returned future kills the attempt without grace in the
    /// background. Dropping the executor kills the process groups of its attempts without waiting
    /// for their death.
    async fn run(&self, assignment: Assignment, control: Control) -> Report {
        let abandoned = CancellationToken::new();
        let _abandon_on_drop = abandoned.clone().drop_guard();
        let (reply, begun) = oneshot::channel();
        let (host, runtime) = (Arc::clone(&self.host), Handle::current());
        self.starters.carry_out(Box::new(move |starter| {
            // If the receiver is gone, `abandoned` is cancelled too, which ends a running attempt.
            drop(reply.send(host.begin(starter, &runtime, assignment, control, abandoned)));
        }));
        let report = match begun.await {
            Ok(Progress::Finished(report)) => Ok(report),
            Ok(Progress::StillRunning(rest)) => rest.await.map_err(|error| error.to_string()),
            Err(_) => Err("its thread ended early".to_owned()),
        };
        report.unwrap_or_else(|error| Report {
            outcome: Err(worker_fault(&format!("worker could not finish the attempt: {error}"))),
            usage: Usage::default(),
        })
    }
}

/// The kind of thread that an attempt runs on, which determines how to block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunsOn {
    /// A starter thread, which may block. It may be a member of the attempt's control group, and so
    /// would any thread that it creates.
    Starter,
    /// A runtime thread, which must not block.
    Runtime,
}

impl RunsOn {
    /// Runs a blocking operation.
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
