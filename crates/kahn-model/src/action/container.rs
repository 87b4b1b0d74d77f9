//! Containers.

use super::Text;

/// When to pull an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PullPolicy {
    /// If the host does not have it.
    #[default]
    Missing,
    /// Before every attempt.
    Always,
    /// Never; the host must have it.
    Never,
}

impl PullPolicy {
    /// Returns the name used in the DAG file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

/// A directory of the worker's host that is mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mount {
    /// The path on the host. The worker's configuration restricts which paths may be mounted.
    pub source: Text,
    /// The path in the container.
    pub target: Box<str>,
    /// Whether the container may write to it.
    pub is_writable: bool,
}

/// A port of a container that is published on the worker's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The port in the container.
    pub container: u16,
    /// The port on the host; 0 means any free port.
    pub host: u16,
}

/// A container that runs to completion.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Container {
    /// The image.
    pub image: Text,
    /// When to pull the image.
    pub pull: PullPolicy,
    /// The program, replacing the entry point of the image. If empty, the image's own is used.
    pub command: Vec<Text>,
    /// The arguments. If empty, those of the image are used.
    pub args: Vec<Text>,
    /// The user, as `uid` or `uid:gid`. Default: a user other than root, chosen by the worker.
    pub user: Option<Box<str>>,
    /// Directories of the host to mount.
    pub mounts: Vec<Mount>,
    /// Ports to publish on the host.
    pub ports: Vec<Port>,
}
