//! Containers, as a DAG asks for them.

use super::Text;

/// When an image is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PullPolicy {
    /// When it is not there.
    #[default]
    Missing,
    /// Each time.
    Always,
    /// Never: it must be there.
    Never,
}

impl PullPolicy {
    /// The word for it in the DAG file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

/// A directory of the worker's host that a container sees.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mount {
    /// Where it is on the host; the worker's configuration says what may be mounted.
    pub source: Text,
    /// Where it is in the container.
    pub target: Box<str>,
    /// Whether the container may write to it.
    pub is_writable: bool,
}

/// A port of a container that can be reached on the worker's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The port in the container.
    pub container: u16,
    /// The port on the host; any free one when 0.
    pub host: u16,
}

/// A container to run to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Container {
    /// The image.
    pub image: Text,
    /// When it is fetched.
    pub pull: PullPolicy,
    /// The program, in place of the image's entry point; the image's own when empty.
    pub command: Vec<Text>,
    /// The arguments; the image's own when empty.
    pub args: Vec<Text>,
    /// Who runs it, as `uid` or `uid:gid`; the worker's choice, which is not root, when not given.
    pub user: Option<Box<str>>,
    /// What it sees of the host.
    pub mounts: Vec<Mount>,
    /// What of it is seen from the host.
    pub ports: Vec<Port>,
}
