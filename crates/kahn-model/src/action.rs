//! Actions: what a task does.

mod call;
mod container;
mod http;
mod pod;
mod secret;
mod text;
mod texts;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::LabelRule;

pub use call::{FunctionCall, PythonCall};
pub use container::{Container, Mount, Port, PullPolicy};
pub use http::{Body, HttpRequest, Polling, StatusRange};
pub use pod::{Pod, PodOptions, PodVolume, TaintEffect, Toleration, VolumeSource};
pub use secret::{SecretTarget, SecretUse};
pub use text::{Text, TextRole};

/// The shell that runs a script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shell {
    /// `/bin/sh -e -c`.
    #[default]
    Sh,
    /// `bash -e -o pipefail -c`.
    Bash,
}

/// An action, independent of where, when and how often it runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// A shell script. Expressions are never spliced into it.
    Run {
        /// The script.
        script: Box<str>,
        /// The shell.
        shell: Shell,
    },
    /// A program with its arguments, started without a shell.
    Exec {
        /// The program, then its arguments.
        argv: Vec<Text>,
    },
    /// A function registered by the worker.
    Function(Box<FunctionCall>),
    /// A Python function, called in an interpreter that is kept running.
    Python(Box<PythonCall>),
    /// A container.
    Container(Box<Container>),
    /// A container that runs as a pod of Kubernetes.
    Pod(Box<Pod>),
    /// An HTTP request.
    Http(Box<HttpRequest>),
    /// Waits, then succeeds.
    Sleep {
        /// The duration.
        duration: Duration,
    },
    /// Does nothing and succeeds.
    Noop,
}

/// The kinds of actions. A worker advertises the kinds that it supports, and tasks are placed
/// accordingly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActionKind {
    /// `run` and `exec`: a process on the worker's host.
    Process,
    /// `sleep` and `noop`: executed inside the worker.
    Builtin,
    /// `function`: executed inside a worker that has registered it.
    Function,
    /// `python`: an interpreter on the worker's host.
    Python,
    /// `container`: an engine on the worker's host.
    Container,
    /// `http`: executed inside the worker.
    Http,
    /// `container` with `via: kubernetes`: a pod.
    Kubernetes,
}

impl ActionKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Process,
        Self::Builtin,
        Self::Function,
        Self::Python,
        Self::Container,
        Self::Http,
        Self::Kubernetes,
    ];

    /// Returns the name used in files, flags and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Builtin => "builtin",
            Self::Function => "function",
            Self::Python => "python",
            Self::Container => "container",
            Self::Http => "http",
            Self::Kubernetes => "kubernetes",
        }
    }

    /// Returns the kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Action {
    /// Returns the kind, which determines the executor.
    #[must_use]
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::Run { .. } | Self::Exec { .. } => ActionKind::Process,
            Self::Function(_) => ActionKind::Function,
            Self::Python(_) => ActionKind::Python,
            Self::Container(_) => ActionKind::Container,
            Self::Pod(_) => ActionKind::Kubernetes,
            Self::Http(_) => ActionKind::Http,
            Self::Sleep { .. } | Self::Noop => ActionKind::Builtin,
        }
    }

    /// Returns the keyword in the DAG file.
    #[must_use]
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Run { .. } => "run",
            Self::Exec { .. } => "exec",
            Self::Function(_) => "function",
            Self::Python(_) => "python",
            Self::Container(_) | Self::Pod(_) => "container",
            Self::Http(_) => "http",
            Self::Sleep { .. } => "sleep",
            Self::Noop => "noop",
        }
    }
}

/// An action with its environment: everything an executor needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work {
    /// The action.
    pub action: Action,
    /// Environment variables, in order; later ones take precedence.
    pub env: Vec<(Box<str>, Text)>,
    /// The working directory. Default: the scratch directory of the attempt on the worker.
    pub working_dir: Option<Text>,
    /// Secrets, added by the worker. A secret takes precedence over a variable of the same name in
    /// `env`.
    pub secrets: Vec<SecretUse>,
}

impl Work {
    /// Creates work without environment, working directory and secrets.
    #[must_use]
    pub fn new(action: Action) -> Self {
        Self { action, env: Vec::new(), working_dir: None, secrets: Vec::new() }
    }

    /// Returns the label rules that the secrets imply, one for each secret.
    #[must_use]
    pub fn secret_rules(&self) -> Vec<LabelRule> {
        let secrets: BTreeSet<&str> = self.secrets.iter().map(|one| one.secret.as_str()).collect();
        let rule = |name| LabelRule::Exists { key: SecretUse::label_of(name) };
        secrets.into_iter().map(rule).collect()
    }

    /// Returns the size of everything but the values of the environment, in bytes.
    pub(crate) fn n_bytes_without_values(&self) -> usize {
        let variables = self.env.iter().map(|(name, _)| size_of::<(Box<str>, Text)>() + name.len());
        let secrets = self.secrets.iter().map(|one| size_of::<SecretUse>() + one.prefix.len());
        let dir = self.working_dir.as_ref().map_or(0, |dir| dir.as_str().len());
        let parts = variables.sum::<usize>() + secrets.sum::<usize>() + dir;
        size_of::<Self>() + self.action.n_bytes() + parts
    }

    /// Returns whether any part contains an expression and must be rendered before execution.
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        self.env.iter().map(|(_, value)| value).chain(&self.working_dir).any(Text::is_dynamic)
            || self.action.texts().iter().any(|(_, text)| text.is_dynamic())
    }
}
