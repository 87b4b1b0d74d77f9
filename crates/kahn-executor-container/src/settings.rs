//! What an operator may choose about containers: the section `[worker.container]`.

use std::path::PathBuf;
use std::time::Duration;

use kahn_runtime::human_duration;
use serde::{Deserialize, Serialize};

/// What an operator may choose about containers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerSettings {
    /// The socket of the engine; when not given, the usual ones of Docker and Podman are tried.
    /// The engine must see the worker's data directory under the name that the worker knows.
    pub engine: Option<PathBuf>,
    /// Directories of the host that tasks may mount, with all that is in them. Links are resolved
    /// before a mount is allowed. None unless given: whoever may write into one of them, by way of
    /// a mount or otherwise, is trusted not to swap directories for links at that moment.
    pub mounts: Vec<PathBuf>,
    /// Who runs the containers of tasks that do not say, as `uid` or `uid:gid`.
    pub user: String,
    /// Whether root, which is root on the host to the kernel, may run containers.
    pub allow_root: bool,
    /// The network that containers are in; `none` for none.
    pub network: String,
    /// The address of the host at which the ports of containers can be reached.
    pub port_address: String,
    /// Most processes and threads of one container.
    pub pids: u32,
    /// Largest `/tmp` of one container, in bytes; it is memory of the container.
    pub tmp_bytes: u64,
    /// Whether images may be fetched.
    pub pull: bool,
    /// How long fetching an image may take; this is no part of a task's run timeout.
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
