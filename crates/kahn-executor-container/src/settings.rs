//! Operator settings for containers: the section `[worker.container]`.

use std::path::PathBuf;
use std::time::Duration;

use kahn_runtime::human_duration;
use serde::{Deserialize, Serialize};

/// Operator settings for containers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerSettings {
    /// The socket of the engine. By default the usual sockets of Docker and Podman are tried. The
    /// engine must see the worker's data directory at the same path as the worker.
    pub engine: Option<PathBuf>,
    /// Host directories that tasks may mount, including their subdirectories. Symbolic links are
    /// resolved before the check. Empty by default. Everybody who can write to one of them, through
    /// a mount or otherwise, must be trusted not to replace directories by links during the check.
    pub mounts: Vec<PathBuf>,
    /// The default user in containers, as `uid` or `uid:gid`.
    pub user: String,
    /// Whether containers may run as root, which to the kernel is root on the host.
    pub allow_root: bool,
    /// The network of containers, or `none`.
    pub network: String,
    /// The host address on which container ports are published.
    pub port_address: String,
    /// The maximum number of processes and threads of one container.
    pub pids: u32,
    /// The maximum size of `/tmp` in bytes, which is charged to the container's memory.
    pub tmp_bytes: u64,
    /// Whether images may be pulled.
    pub pull: bool,
    /// The timeout for pulling an image, which does not count towards a task's run timeout.
    #[serde(with = "human_duration")]
    pub pull_timeout: Duration,
}

impl Default for ContainerSettings {
    fn default() -> Self {
        Self {
            engine: None,
            mounts: Vec::new(),
            user: "65532:65532".into(),
            allow_root: false,
            network: "bridge".into(),
            port_address: "127.0.0.1".into(),
            pids: 1024,
            tmp_bytes: 1 << 30,
            pull: true,
            pull_timeout: Duration::from_mins(10),
        }
    }
}
