//! `container`: a container of the engine on the worker's host, Docker or Podman.
//!
//! The life of an attempt: what it asks for is held against what the operator allows, the image is
//! fetched, a container is made and started, what it prints is pumped into the log, and when it
//! has ended or was asked to, its outputs are read and it is removed. The report is given only
//! when the engine has said that nothing of it is left.
//!
//! A container gets as little as it can work with: no capability, no way to gain one, a file
//! system that it cannot write to but for `/tmp`, and of the host only what is mounted.
//!
//! Containers outlive a worker that is killed. They carry labels that say whose they are, and the
//! next start removes them: an attempt is not taken over, since its worker reports it lost.

mod directory;
mod engine;
mod image;
mod mounts;
mod orphans;
mod plan;
mod settings;
mod stats;
mod supervise;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kahn_model::{ActionKind, Cause, CauseKind, Failure, Usage, WorkerId};
use tokio_util::sync::CancellationToken;

use directory::Directories;
use engine::Engine;
use kahn_executor::{Assignment, Control, Executor, Report};
use supervise::Host;

pub use settings::ContainerSettings;

/// How long the engine may take to answer when a worker starts.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// How long removing what an earlier boot left may take.
const SWEEP: Duration = Duration::from_secs(60);

/// Why containers cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum NoEngine {
    /// No socket is where it should be.
    #[error("no container engine: {} is not there", paths(.looked_at))]
    NotThere {
        /// Where it was looked for.
        looked_at: Vec<PathBuf>,
    },
    /// The engine does not answer as one.
    #[error("container engine at {socket}: {reason}")]
    NoAnswer {
        /// Its socket.
        socket: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The directory for outputs cannot be had.
    #[error("cannot prepare {path}: {reason}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

fn paths(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(" or ")
}

/// Carries out `container`.
#[derive(Clone, Debug)]
pub struct ContainerExecutor {
    host: Arc<Host>,
}

impl ContainerExecutor {
    /// An executor that makes its containers in the name of `worker`, and keeps their outputs
    /// under `dir`, which no other worker may use. `grace` is the time between the request to end
    /// and the kill, for tasks that do not say.
    ///
    /// Removes the containers that an earlier boot of this worker left. Blocks while it does, and
    /// while it waits for the engine.
    ///
    /// # Errors
    ///
    /// [`NoEngine`] says why there is none.
    pub fn open(
        settings: ContainerSettings,
        worker: &WorkerId,
        dir: &Path,
        grace: Duration,
    ) -> Result<Self, NoEngine> {
        let engine = Engine::find(settings.engine.as_deref())?;
        let unusable = |error: std::io::Error| NoEngine::Directory {
            path: dir.to_owned(),
            reason: error.to_string(),
        };
        let directories = Directories::open(dir).map_err(unusable)?;
        let worker = worker.to_string();
        let n_cpus = apart(async {
            let n_cpus = within(FIRST_ANSWER, engine.n_cpus()).await??;
            let owner = orphans::Owner { worker: &worker, home: directories.root() };
            within(SWEEP, orphans::remove(&engine, &owner)).await??;
            Ok(n_cpus)
        });
        let n_cpus = n_cpus.map_err(|reason: String| NoEngine::NoAnswer {
            socket: engine.socket().to_owned(),
            reason,
        })?;
        Ok(Self { host: Arc::new(Host { engine, settings, directories, worker, n_cpus, grace }) })
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, String> {
    let timed = tokio::time::timeout(limit, work).await;
    timed.map_err(|_| format!("no answer within {limit:?}"))
}

/// Waits for `work` without a runtime of the caller's: it may be called from within one.
fn apart<T: Send>(work: impl Future<Output = Result<T, String>> + Send) -> Result<T, String> {
    let block_on = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(work)
    };
    std::thread::scope(|scope| {
        let joined = scope.spawn(block_on).join();
        joined.unwrap_or_else(|_| Err("panicked".to_owned()))
    })
}

#[async_trait]
impl Executor for ContainerExecutor {
    fn kind(&self) -> ActionKind {
        ActionKind::Container
    }

    /// As the trait says. When the returned future is dropped, the container is killed without
    /// grace in the background.
    async fn run(&self, assignment: Assignment, control: Control) -> Report {
        let abandoned = CancellationToken::new();
        let _abandon_on_drop = abandoned.clone().drop_guard();
        let host = Arc::clone(&self.host);
        let logs = Arc::clone(&assignment.logs);
        let carried_out = tokio::spawn(host.carry_out(assignment, control, abandoned));
        let report = carried_out.await.unwrap_or_else(|error| {
            not_run(gave_up(&format!("worker could not finish the attempt: {error}")))
        });
        logs.seal();
        report
    }
}

fn not_run(failure: Failure) -> Report {
    Report { outcome: Err(failure), usage: Usage::default() }
}

/// The worker or its engine, not the task, is at fault, and another worker may do better.
fn gave_up(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::Preempted), message)
}

/// What the task asks for cannot be started anywhere.
fn cannot_start(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::Image), message)
}

/// What the task asks for is not allowed here.
fn refused(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::Policy), message)
}
