//! Executes `container` with the container engine on the worker's host, Docker or Podman.
//!
//! An attempt is checked against the operator's policy. Then the image is pulled, and a container
//! is created and started, with its output copied into the log. When it has ended, its outputs are
//! read and it is removed. The report is returned only after the engine has confirmed that nothing
//! of it is left.
//!
//! Containers have minimal privileges: no capabilities and no way to gain any, a read-only file
//! system except for `/tmp`, and no access to the host except for mounts.
//!
//! Containers survive the death of their worker. Their labels identify their owner, and the next
//! start removes them. Their attempts are not resumed, since the worker reports them as lost.

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
use kahn_executor::failure::worker_fault;
use kahn_model::{ActionKind, WorkerId};
use tokio_util::sync::CancellationToken;

use directory::Directories;
use engine::Engine;
use kahn_executor::{Assignment, Control, Executor, Report};
use supervise::Host;

pub use settings::ContainerSettings;

/// How long to wait for the engine's first response when a worker starts.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// The timeout for removing the containers of an earlier boot.
const SWEEP: Duration = Duration::from_secs(60);

/// Why containers cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum NoEngine {
    /// No socket was found.
    #[error("no container engine: {} is not there", paths(.looked_at))]
    NotThere {
        /// The paths that were tried.
        looked_at: Vec<PathBuf>,
    },
    /// The engine does not respond properly.
    #[error("container engine at {socket}: {reason}")]
    NoAnswer {
        /// The socket.
        socket: PathBuf,
        /// The error message.
        reason: String,
    },
    /// The directory for outputs cannot be used.
    #[error("cannot prepare {path}: {reason}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The error message.
        reason: String,
    },
}

fn paths(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(" or ")
}

/// Executes `container`.
#[derive(Clone, Debug)]
pub struct ContainerExecutor {
    host: Arc<Host>,
}

impl ContainerExecutor {
    /// Opens an executor that creates containers in the name of `worker` and keeps their outputs in
    /// `dir`, which must not be shared with another worker. `grace` is the delay between the stop
    /// signal and the kill for tasks that do not set one.
    ///
    /// Removes the containers left by an earlier boot of this worker. Blocks meanwhile, and while
    /// it waits for the engine.
    ///
    /// # Errors
    ///
    /// Returns [`NoEngine`] if no engine can be used.
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
        let n_cpus = block_on_own_runtime(async {
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

/// Runs `work` to completion on a separate runtime, since the caller may be in a runtime itself.
fn block_on_own_runtime<T: Send>(
    work: impl Future<Output = Result<T, String>> + Send,
) -> Result<T, String> {
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

    /// See the trait. Dropping the returned future kills the container without grace in the
    /// background.
    async fn run(&self, assignment: Assignment, control: Control) -> Report {
        let abandoned = CancellationToken::new();
        let _abandon_on_drop = abandoned.clone().drop_guard();
        let host = Arc::clone(&self.host);
        let logs = Arc::clone(&assignment.logs);
        let carried_out = tokio::spawn(host.carry_out(assignment, control, abandoned));
        let report = carried_out.await.unwrap_or_else(|error| {
            Report::not_run(worker_fault(&format!("worker could not finish the attempt: {error}")))
        });
        logs.seal();
        report
    }
}
