//! The container engine, accessed through its socket.
//!
//! Requests that confirm the death of a container are repeated until the engine answers, because an
//! attempt is reported only after its end is confirmed.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bollard::Docker;
use bollard::container::AttachContainerResults;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerState};
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, InspectContainerOptions, KillContainerOptions,
    ListContainersOptions, RemoveContainerOptions, StartContainerOptions, WaitContainerOptions,
};
use kahn_executor::failure::{cannot_start, worker_fault};
use kahn_model::Failure;
use tokio_stream::StreamExt as _;

use super::NoEngine;

/// The default sockets of engines.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/podman/podman.sock"];
/// The timeout of one request.
const REQUEST_SECONDS: u64 = 120;
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long a killed container may take to die before it is killed again.
const DEATH: Duration = Duration::from_secs(5);
/// The maximum number of attempts to remove a dead container. After that it is left to the next
/// start.
const N_REMOVALS_MAX: u32 = 10;

/// The default stop signal, unless the image names another.
const TERM: &str = "SIGTERM";
const KILL: &str = "SIGKILL";

/// The id of a container, assigned by the engine.
#[derive(Clone, Debug)]
pub(super) struct Id(pub(super) String);

/// How a container ended.
#[derive(Clone, Debug, Default)]
pub(super) struct End {
    pub(super) code: i32,
    pub(super) is_out_of_memory: bool,
    /// The engine's error message; usually empty.
    pub(super) message: String,
}

/// The engine of this host.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    docker: Docker,
    socket: PathBuf,
}

impl Engine {
    /// Returns the engine at `socket` or a default location. Does not connect yet.
    pub(super) fn find(socket: Option<&Path>) -> Result<Self, NoEngine> {
        let looked_at = match socket {
            Some(socket) => vec![plain_path(socket)],
            None => SOCKETS.map(PathBuf::from).to_vec(),
        };
        let Some(socket) = looked_at.iter().find(|socket| socket.exists()).cloned() else {
            return Err(NoEngine::NotThere { looked_at });
        };
        let address = socket.display().to_string();
        match Docker::connect_with_unix(&address, REQUEST_SECONDS, bollard::API_DEFAULT_VERSION) {
            Ok(docker) => Ok(Self { docker, socket }),
            Err(error) => Err(NoEngine::NoAnswer { socket, reason: error.to_string() }),
        }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Negotiates the API version with the engine, and returns its number of CPUs.
    pub(super) async fn n_cpus(&self) -> Result<u64, String> {
        // The negotiated version is shared by all clones.
        let docker = self.docker.clone().negotiate_version().await.map_err(|e| e.to_string())?;
        let info = docker.info().await.map_err(|error| error.to_string())?;
        let version = docker.client_version();
        tracing::debug!(socket = %self.socket.display(), %version, "container engine");
        Ok(info.ncpu.and_then(|n| u64::try_from(n).ok()).filter(|&n| n > 0).unwrap_or(u64::MAX))
    }

    pub(super) async fn create(&self, body: ContainerCreateBody) -> Result<Id, Error> {
        let created = self.docker.create_container(None::<CreateContainerOptions>, body).await?;
        for warning in created.warnings {
            tracing::debug!(id = created.id, warning, "container engine warns");
        }
        Ok(Id(created.id))
    }

    /// Attaches to the container's output, from its start on.
    pub(super) async fn attach(&self, id: &Id) -> Result<AttachContainerResults, Error> {
        let options = AttachContainerOptions {
            stream: true,
            stdout: true,
            stderr: true,
            ..AttachContainerOptions::default()
        };
        self.docker.attach_container(&id.0, Some(options)).await
    }

    pub(super) async fn start(&self, id: &Id) -> Result<(), Error> {
        self.docker.start_container(&id.0, None::<StartContainerOptions>).await
    }

    /// Waits until a started container has ended, with retries while the engine does not respond.
    pub(super) async fn ended(&self, id: &Id) -> End {
        let mut pause = PAUSE_MIN;
        let mut is_known_silent = false;
        loop {
            let options = WaitContainerOptions { condition: "not-running".to_owned() };
            // The result does not matter, since the state is checked afterwards.
            drop(pin!(self.docker.wait_container(&id.0, Some(options))).next().await);
            match self.state(id).await {
                Ok(Some(state)) if state.running == Some(false) => return end(&state),
                Ok(Some(_)) => {}
                Ok(None) => {
                    let message = "the container was removed by somebody else".to_owned();
                    return End { code: -1, message, ..End::default() };
                }
                Err(error) => {
                    if !is_known_silent {
                        tracing::warn!(id = id.0, %error, "engine does not return a container state");
                    }
                    is_known_silent = true;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Returns the state of a container, or `None` if it does not exist any more.
    async fn state(&self, id: &Id) -> Result<Option<ContainerState>, Error> {
        match self.docker.inspect_container(&id.0, None::<InspectContainerOptions>).await {
            Ok(found) => Ok(Some(found.state.unwrap_or_default())),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the host addresses of a running container's ports, one line for each.
    pub(super) async fn ports(&self, id: &Id) -> Vec<String> {
        let found = self.docker.inspect_container(&id.0, None::<InspectContainerOptions>).await;
        let ports = found.ok().and_then(|found| found.network_settings?.ports).unwrap_or_default();
        let ports: std::collections::BTreeMap<_, _> = ports.into_iter().collect();
        let mut lines = Vec::new();
        for (port, bindings) in ports {
            for binding in bindings.into_iter().flatten() {
                let (ip, host_port) = (binding.host_ip, binding.host_port);
                let (ip, host_port) = (ip.unwrap_or_default(), host_port.unwrap_or_default());
                lines.push(format!("port {port} is at {ip}:{host_port}"));
            }
        }
        lines
    }

    /// Sends the stop signal of the image to the container.
    pub(super) async fn ask_to_end(&self, id: &Id) {
        let found = self.docker.inspect_container(&id.0, None::<InspectContainerOptions>).await;
        let named = found.ok().and_then(|found| found.config?.stop_signal);
        let signal = named.filter(|signal| !signal.is_empty()).unwrap_or_else(|| TERM.to_owned());
        self.signal(id, &signal).await;
    }

    /// Kills the container and waits until it is dead.
    pub(super) async fn kill(&self, id: &Id) -> End {
        loop {
            self.signal(id, KILL).await;
            match tokio::time::timeout(DEATH, self.ended(id)).await {
                Ok(end) => return end,
                Err(_) => tracing::warn!(id = id.0, "a container does not die"),
            }
        }
    }

    async fn signal(&self, id: &Id, signal: &str) {
        let options = KillContainerOptions { signal: signal.to_owned() };
        match self.docker.kill_container(&id.0, Some(options)).await {
            Err(error) if !matches!(status(&error), Some(404 | 409)) => {
                tracing::warn!(id = id.0, signal, %error, "cannot signal a container");
            }
            // The container has ended already.
            Ok(()) | Err(_) => {}
        }
    }

    /// Removes the container with its volumes. When this returns, none of its processes is left. A
    /// dead container that the engine cannot remove is left to the next start.
    pub(super) async fn remove(&self, id: &Id) {
        let mut pause = PAUSE_MIN;
        for n_tries in 1.. {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            let error = match self.docker.remove_container(&id.0, Some(options)).await {
                Ok(()) => return,
                Err(error) if status(&error) == Some(404) => return,
                Err(error) => error,
            };
            if n_tries == 2 {
                tracing::warn!(id = id.0, %error, "cannot remove a container");
            }
            match self.state(id).await {
                Ok(None) => return,
                Ok(Some(state)) if state.running == Some(false) && n_tries >= N_REMOVALS_MAX => {
                    tracing::warn!(id = id.0, %error, "a dead container cannot be removed");
                    return;
                }
                Ok(Some(_)) | Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Returns all containers, including dead ones, that have all of `labels`, each with all its
    /// labels.
    pub(super) async fn labelled(
        &self,
        labels: impl IntoIterator<Item = (&str, &str)>,
    ) -> Result<Vec<(Id, std::collections::HashMap<String, String>)>, Error> {
        let labels = labels.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let options = ListContainersOptions {
            all: true,
            filters: Some([("label".to_owned(), labels)].into()),
            ..ListContainersOptions::default()
        };
        let found = self.docker.list_containers(Some(options)).await?;
        let with_id = found.into_iter().filter_map(|found| {
            let labels = found.labels.unwrap_or_default();
            found.id.map(|id| (Id(id), labels))
        });
        Ok(with_id.collect())
    }
}

/// Returns the path of a socket that may be given as a URL.
fn plain_path(socket: &Path) -> PathBuf {
    let url = socket.to_str().and_then(|text| text.strip_prefix("unix://"));
    url.map_or_else(|| socket.to_owned(), PathBuf::from)
}

fn end(state: &ContainerState) -> End {
    let code = state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
    End {
        code,
        is_out_of_memory: state.oom_killed == Some(true) && code != 0,
        message: state.error.clone().unwrap_or_default(),
    }
}

/// Returns the HTTP status of an error response of the engine.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Converts an error into a failure. `what` is the operation that failed.
pub(super) fn explain(what: &str, error: &Error) -> Failure {
    match error {
        // The request is invalid, and would be refused by other engines too.
        Error::DockerResponseServerError { status_code: 400..=499, message } => {
            cannot_start(&format!("engine cannot {what}: {message}"))
        }
        Error::DockerResponseServerError { message, .. } => {
            worker_fault(&format!("engine cannot {what}: {message}"))
        }
        error => worker_fault(&format!("engine did not {what}: {error}")),
    }
}
