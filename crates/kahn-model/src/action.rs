//! What a task does.

mod call;
mod container;
mod http;
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
pub use secret::{SecretTarget, SecretUse};
pub use text::{Text, TextRole};

/// The shell that reads a script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shell {
    /// `/bin/sh -e -c`.
    #[default]
    Sh,
    /// `bash -e -o pipefail -c`.
    Bash,
}

/// What a task does, without where, when and how often.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// A shell script. No expression is ever spliced into it.
    Run {
        /// The script as written.
        script: Box<str>,
        /// Who reads it.
        shell: Shell,
    },
    /// A program with its arguments; no shell in between.
    Exec {
        /// The program, then its arguments.
        argv: Vec<Text>,
    },
    /// A function of the worker itself.
    Function(Box<FunctionCall>),
    /// A function of Python, in an interpreter that is kept warm.
    Python(Box<PythonCall>),
    /// A container.
    Container(Box<Container>),
    /// A request over HTTP.
    Http(Box<HttpRequest>),
    /// Waits, and succeeds.
    Sleep {
        /// How long.
        duration: Duration,
    },
    /// Does nothing, and succeeds.
    Noop,
}

/// The kinds of action, which a worker advertises and placement honours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActionKind {
    /// `run` and `exec`: a process on the worker's host.
    Process,
    /// `sleep` and `noop`: carried out inside the worker.
    Builtin,
    /// `function`: carried out inside a worker that has it.
    Function,
    /// `python`: an interpreter on the worker's host.
    Python,
    /// `container`: an engine on the worker's host.
    Container,
    /// `http`: carried out inside the worker.
    Http,
}

impl ActionKind {
    /// All kinds there are.
    pub const ALL: [Self; 6] =
        [Self::Process, Self::Builtin, Self::Function, Self::Python, Self::Container, Self::Http];

    /// The word for it in files, flags and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Builtin => "builtin",
            Self::Function => "function",
            Self::Python => "python",
            Self::Container => "container",
            Self::Http => "http",
        }
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Action {
    /// Which executor carries it out.
    #[must_use]
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::Run { .. } | Self::Exec { .. } => ActionKind::Process,
            Self::Function(_) => ActionKind::Function,
            Self::Python(_) => ActionKind::Python,
            Self::Container(_) => ActionKind::Container,
            Self::Http(_) => ActionKind::Http,
            Self::Sleep { .. } | Self::Noop => ActionKind::Builtin,
        }
    }

    /// The word for it in the DAG file.
    #[must_use]
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Run { .. } => "run",
            Self::Exec { .. } => "exec",
            Self::Function(_) => "function",
            Self::Python(_) => "python",
            Self::Container(_) => "container",
            Self::Http(_) => "http",
            Self::Sleep { .. } => "sleep",
            Self::Noop => "noop",
        }
    }
}

/// An action with its surroundings: all that an executor is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work {
    /// What to do.
    pub action: Action,
    /// Environment variables, in the order written; later ones win.
    pub env: Vec<(Box<str>, Text)>,
    /// Where to do it; the worker's scratch directory of the attempt when not given.
    pub working_dir: Option<Text>,
    /// Secrets, which its worker adds. Where one has the name of a variable in `env`, it wins.
    pub secrets: Vec<SecretUse>,
}

impl Work {
    /// Work with no surroundings.
    #[must_use]
    pub fn new(action: Action) -> Self {
        Self { action, env: Vec::new(), working_dir: None, secrets: Vec::new() }
    }

    /// What its secrets ask of a worker: one rule for each.
    #[must_use]
    pub fn secret_rules(&self) -> Vec<LabelRule> {
        let secrets: BTreeSet<&str> = self.secrets.iter().map(|one| one.secret.as_str()).collect();
        let rule = |name| LabelRule::Exists { key: SecretUse::label_of(name) };
        secrets.into_iter().map(rule).collect()
    }

    /// Whether any part holds an expression, and so must be rendered before it is carried out.
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        self.env.iter().map(|(_, value)| value).chain(&self.working_dir).any(Text::is_dynamic)
            || self.action.texts().iter().any(|(_, text)| text.is_dynamic())
    }
}
