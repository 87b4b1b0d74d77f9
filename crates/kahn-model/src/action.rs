//! What a task does.

use std::fmt;
use std::time::Duration;

/// A text in which `${{ … }}` stands for an expression.
///
/// Whether it holds one is seen from the text alone; what the expression means is not known here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Box<str>);

impl Text {
    /// The text as written.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the text holds an expression, and so is not yet what the task will see.
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        self.0.contains("${{")
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

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
}

impl ActionKind {
    /// All kinds there are.
    pub const ALL: [Self; 2] = [Self::Process, Self::Builtin];

    /// The word for it in files, flags and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Builtin => "builtin",
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
            Self::Sleep { .. } | Self::Noop => ActionKind::Builtin,
        }
    }

    /// The word for it in the DAG file.
    #[must_use]
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Run { .. } => "run",
            Self::Exec { .. } => "exec",
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
}

impl Work {
    /// Work with no surroundings.
    #[must_use]
    pub fn new(action: Action) -> Self {
        Self { action, env: Vec::new(), working_dir: None }
    }

    /// Whether any part holds an expression, and so must be rendered before it is carried out.
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        let argv = match &self.action {
            Action::Exec { argv } => argv.as_slice(),
            Action::Run { .. } | Action::Sleep { .. } | Action::Noop => &[],
        };
        argv.iter()
            .chain(self.env.iter().map(|(_, value)| value))
            .chain(&self.working_dir)
            .any(Text::is_dynamic)
    }
}
