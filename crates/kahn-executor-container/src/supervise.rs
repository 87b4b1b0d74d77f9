//! Runs one attempt, from its start to its report.

use std::collections::HashMap;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bollard::container::AttachContainerResults;
use kahn_executor::failure::{self, cannot_start, worker_fault};
use kahn_model::{Action, Cause, CauseKind, Container, Failure, Outputs, Resource, Usage};
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::directory::{self, Directories, OUTPUT_FILE};
use super::engine::{End, Engine, Id, explain, status};
use super::image;
use super::orphans::{self, Owner};
use super::plan::{self, SharedSettings};
use super::settings::ContainerSettings;
use super::stats::Sampler;
use kahn_executor::logs::LogWriter;
use kahn_executor::output_file;
use kahn_executor::{Assignment, Control, Report};

/// How long to wait for the remaining output of a dead container.
const LAST_OUTPUT: Duration = Duration::from_secs(5);
/// The exit code of a container whose program was killed by SIGKILL.
const KILLED: i32 = 128 + 9;

/// State shared by all attempts of a worker.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) engine: Engine,
    pub(super) settings: ContainerSettings,
    pub(super) directories: Directories,
    pub(super) worker: String,
    pub(super) n_cpus: u64,
    pub(super) grace: Duration,
}

/// A running container and its output.
struct Started {
    id: Id,
    output: AttachContainerResults,
    /// The number of OOM kills on the host before the start.
    n_kills: Option<u64>,
}

/// How a container ended.
enum Ending {
    ByItself(End),
    Stopped { reason: CauseKind, was_killed: bool },
}

impl Host {
    /// Executes an attempt. Cancelling `abandoned` ends it without grace.
    pub(super) async fn carry_out(
        self: Arc<Self>,
        assignment: Assignment,
        mut control: Control,
        abandoned: CancellationToken,
    ) -> Report {
        let Action::Container(container) = assignment.work.action.clone() else {
            return Report::not_run(cannot_start("this executor carries out `container` only"));
        };
        let dir = match self.directories.make() {
            Ok(dir) => dir,
            Err(error) => {
                return Report::not_run(worker_fault(&format!("worker has no directory: {error}")));
            }
        };
        let prepared = self.prepare(&container, &assignment, &dir, &mut control, &abandoned).await;
        let report = match prepared {
            Ok(started) => {
                control.started();
                self.finish(started, &container, assignment, control, abandoned, &dir).await
            }
            Err(failure) => Report::not_run(failure),
        };
        let removing = tokio::task::spawn_blocking(move || directory::remove(&dir));
        if let Err(error) = removing.await {
            tracing::warn!(%error, "files of a container cannot be removed");
        }
        report
    }

    /// Does everything up to the start of the container.
    async fn prepare(
        &self,
        container: &Container,
        assignment: &Assignment,
        dir: &Path,
        control: &mut Control,
        abandoned: &CancellationToken,
    ) -> Result<Started, Failure> {
        let owner = Owner { worker: &self.worker, home: self.directories.root() };
        let labels = owner.labels(assignment.attempt, &assignment.task_name);
        let around =
            SharedSettings { settings: &self.settings, labels: &labels, n_cpus: self.n_cpus };
        let body = plan::body(assignment, container, around, dir)?;
        let name = container.image.as_str();
        tokio::select! {
            biased;
            reason = control.stop_requested() => return Err(Failure::of(reason)),
            () = abandoned.cancelled() => return Err(Failure::of(CauseKind::Cancelled)),
            ready = image::ensure(&self.engine, name, container.pull, &self.settings) => ready?,
        }
        let id = match self.engine.create(body).await {
            Ok(id) => id,
            Err(error) => {
                if status(&error).is_none() {
                    orphans::remove_uncertain(&self.engine, &labels).await;
                }
                return Err(explain("make the container", &error));
            }
        };
        let n_kills = kahn_platform::n_out_of_memory_kills();
        let started = self.start(&id, control, &labels).await;
        if started.is_err() {
            self.engine.remove(&id).await;
        }
        Ok(Started { output: started?, id, n_kills })
    }

    async fn start(
        &self,
        id: &Id,
        control: &mut Control,
        labels: &HashMap<String, String>,
    ) -> Result<AttachContainerResults, Failure> {
        // Attached before the start, so that no output is missed.
        let attached = self.engine.attach(id).await;
        let output = attached.map_err(|error| explain("attach to the container", &error))?;
        if let Some(reason) = control.stop_reason() {
            return Err(Failure::of(reason));
        }
        let started = self.engine.start(id).await;
        started.map_err(|error| explain("start the container", &error))?;
        tracing::debug!(id = id.0, ?labels, "container runs");
        Ok(output)
    }

    /// Supervises a started container until nothing of it is left.
    async fn finish(
        &self,
        started: Started,
        container: &Container,
        assignment: Assignment,
        control: Control,
        abandoned: CancellationToken,
        dir: &Path,
    ) -> Report {
        let Started { id, output, n_kills } = started;
        let ended = CancellationToken::new();
        let (logs, timeouts) = (assignment.logs, assignment.timeouts);
        let grace = timeouts.grace.unwrap_or(self.grace);
        if !container.ports.is_empty() {
            for line in self.engine.ports(&id).await {
                logs.append(format!("[kahn] {line}\n").as_bytes());
            }
        }
        let pumping = pump(output, &logs, &ended);
        let supervising = async {
            let result = self.supervise(&id, control, timeouts.run, grace, abandoned).await;
            ended.cancel();
            result
        };
        let ((mut ending, usage), ()) = tokio::join!(supervising, pumping);
        let memory = assignment.resources.get(&Resource::Memory);
        if let Ending::ByItself(end) = &mut ending
            && end.code == KILLED
            && memory > 0
        {
            // If the container ends right after an OOM kill, the engine may not report it.
            end.is_out_of_memory |= n_kills < kahn_platform::n_out_of_memory_kills();
        }
        self.engine.remove(&id).await;
        let outcome = match ending {
            Ending::ByItself(end) if end.is_out_of_memory => {
                let message = format!("needs more than {memory} bytes of memory");
                Err(Failure::new(Cause::of(CauseKind::OutOfMemory), &message))
            }
            Ending::ByItself(end) => outcome(&end, dir).await,
            Ending::Stopped { reason, was_killed } => {
                Err(failure::stopped(reason, was_killed, timeouts.run))
            }
        };
        Report { outcome, usage }
    }

    /// Waits for the end of the container, and stops it if necessary.
    async fn supervise(
        &self,
        id: &Id,
        mut control: Control,
        run_timeout: Option<Duration>,
        grace: Duration,
        abandoned: CancellationToken,
    ) -> (Ending, Usage) {
        let started_at = Instant::now();
        let sampler = Sampler::default();
        let mut dying = pin!(self.engine.ended(id));
        let reason = tokio::select! {
            biased;
            end = &mut dying => {
                return (Ending::ByItself(end), sampler.usage(started_at.elapsed()));
            }
            () = abandoned.cancelled() => CauseKind::Cancelled,
            reason = control.stop_or_timeout(run_timeout) => reason,
            () = sampler.sample(&self.engine, id) => CauseKind::Preempted,
        };
        let gracefully = async {
            self.engine.ask_to_end(id).await;
            dying.await;
        };
        let was_killed = tokio::select! {
            biased;
            () = abandoned.cancelled() => true,
            timed = tokio::time::timeout(grace, gracefully) => timed.is_err(),
        };
        if was_killed {
            self.engine.kill(id).await;
        }
        (Ending::Stopped { reason, was_killed }, sampler.usage(started_at.elapsed()))
    }
}

/// Copies the output of a container into the log until it is dead and its output has ended.
async fn pump(mut output: AttachContainerResults, logs: &LogWriter, ended: &CancellationToken) {
    let overdue = async {
        ended.cancelled().await;
        tokio::time::sleep(LAST_OUTPUT).await;
    };
    let copying = async {
        while let Some(printed) = output.output.next().await {
            match printed {
                Ok(printed) => {
                    let bytes = printed.into_bytes();
                    logs.append(&bytes);
                    logs.throttle(bytes.len()).await;
                }
                Err(error) => {
                    tracing::warn!(?logs, %error, "the output of a container cannot be logged");
                    return;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = copying => {}
        () = overdue => tracing::warn!(?logs, "output of a container has no end"),
    }
}

async fn outcome(end: &End, dir: &Path) -> Result<Outputs, Failure> {
    if end.code != 0 {
        return Err(Failure::new(Cause::exit_code(end.code), &end.message));
    }
    let path = dir.join(OUTPUT_FILE);
    match tokio::task::spawn_blocking(move || output_file::read(&path)).await {
        Ok(read) => read.map_err(|error| Failure::new(Cause::exit_code(0), &error.to_string())),
        Err(error) => Err(worker_fault(&error.to_string())),
    }
}
