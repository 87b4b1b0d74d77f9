//! Diagnostics: what is wrong with a DAG file, where, and how to fix it.

mod place;
mod render;

use std::ops::Range;

use serde::Serialize;

use crate::span::Span;
use place::Lines;

/// Maximum number of diagnostics collected for one file.
pub const DIAGNOSTICS_MAX: usize = 50;

/// Maximum length of a message, in bytes.
const MESSAGE_BYTES_MAX: usize = 500;
/// Maximum length of a help text, in bytes.
const HELP_BYTES_MAX: usize = 2000;

/// The kind of a diagnostic. Stable and machine-readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Not UTF-8, or not YAML or JSON.
    Syntax,
    /// A field that does not exist.
    UnknownField,
    /// A required field is missing.
    MissingField,
    /// A key that occurs twice.
    DuplicateKey,
    /// A value of the wrong type or out of range.
    InvalidValue,
    /// Fields that exclude each other.
    Conflict,
    /// An invalid name, or a name used twice.
    InvalidName,
    /// A task, output or instance that does not exist.
    UnknownTask,
    /// A parameter that is not declared, has no value, or has a value of the wrong type.
    Parameter,
    /// An expression that cannot be parsed, or is refused.
    Expression,
    /// An expression where none is allowed.
    Injection,
    /// A dependency cycle.
    Cycle,
    /// A limit is exceeded.
    Limit,
    /// A task that no worker can run.
    Infeasible,
    /// A feature that this version does not support.
    Unsupported,
}

impl Code {
    /// Returns the name used in JSON and on the terminal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::UnknownField => "unknown_field",
            Self::MissingField => "missing_field",
            Self::DuplicateKey => "duplicate_key",
            Self::InvalidValue => "invalid_value",
            Self::Conflict => "conflict",
            Self::InvalidName => "invalid_name",
            Self::UnknownTask => "unknown_task",
            Self::Parameter => "parameter",
            Self::Expression => "expression",
            Self::Injection => "injection",
            Self::Cycle => "cycle",
            Self::Limit => "limit",
            Self::Infeasible => "infeasible",
            Self::Unsupported => "unsupported",
        }
    }
}

/// The severity of a diagnostic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file is rejected.
    Error,
    /// The file is accepted, but may not do what was intended.
    Warning,
}

/// A location in the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Label {
    /// The byte range, from the start of the file.
    pub range: Range<usize>,
    /// The line, starting at 1.
    pub line: usize,
    /// The column in characters, starting at 1.
    pub column: usize,
    /// A note about this location; may be empty.
    pub text: String,
}

/// One error or warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The kind.
    pub code: Code,
    /// The severity.
    pub severity: Severity,
    /// A lower-case fragment that says what is wrong and where.
    pub message: String,
    /// The locations. The first one is the location of the problem, the others explain it. Empty if
    /// the location is unknown or not in the file.
    pub labels: Vec<Label>,
    /// How to fix it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Diagnostic {
    /// Creates an error without a location.
    pub(crate) fn error(code: Code, message: impl Into<String>) -> Self {
        let message = place::short(&message.into(), MESSAGE_BYTES_MAX);
        Self { code, severity: Severity::Error, message, labels: Vec::new(), help: None }
    }

    /// Creates a warning without a location.
    pub(crate) fn warning(code: Code, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Adds a location.
    pub(crate) fn at(self, span: Span) -> Self {
        self.label(span, "")
    }

    /// Adds a location with a note.
    pub(crate) fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        if let Some(range) = span.range() {
            let text = place::short(&text.into(), MESSAGE_BYTES_MAX);
            self.labels.push(Label { range, line: 0, column: 0, text });
        }
        self
    }

    /// Adds a help text.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        self.maybe_help(Some(help.into()))
    }

    /// Adds a help text, if there is one.
    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.map(|text| place::short(&text, HELP_BYTES_MAX)).or(self.help);
        self
    }
}

/// All diagnostics for one file, in source order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    /// The file name, as given.
    pub origin: String,
    /// At least one and at most [`DIAGNOSTICS_MAX`] diagnostics.
    pub items: Vec<Diagnostic>,
    /// The number of diagnostics that were dropped.
    pub omitted: usize,
    #[serde(skip)]
    source: String,
}

impl Diagnostics {
    pub(crate) fn new(origin: &str, source: &str, sink: Sink) -> Self {
        let mut items = sink.items;
        let lines = Lines::of(source);
        for label in items.iter_mut().flat_map(|item| &mut item.labels) {
            (label.line, label.column) = lines.locate(source, label.range.start);
        }
        items.sort_by_key(|item| {
            (item.severity, item.labels.first().map_or(usize::MAX, |label| label.range.start))
        });
        let source = if items.iter().all(|item| item.labels.is_empty()) { "" } else { source };
        let origin = place::readable(origin);
        Self { origin, items, omitted: sink.omitted, source: source.into() }
    }

    /// Renders the diagnostics as text, each with its line, column and source excerpt. Contains no
    /// colours and no control characters except line feeds.
    #[must_use]
    pub fn render(&self) -> String {
        render::all(self, false)
    }

    /// Like [`Diagnostics::render`], with ANSI colours.
    #[must_use]
    pub fn render_coloured(&self) -> String {
        render::all(self, true)
    }
}

impl std::fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render())
    }
}

impl std::error::Error for Diagnostics {}

/// Collects up to [`DIAGNOSTICS_MAX`] diagnostics.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    items: Vec<Diagnostic>,
    omitted: usize,
    n_errors: usize,
}

impl Sink {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.n_errors += usize::from(diagnostic.severity == Severity::Error);
        if self.items.contains(&diagnostic) {
            return;
        }
        if self.items.len() < DIAGNOSTICS_MAX {
            self.items.push(diagnostic);
        } else {
            self.omitted += 1;
        }
    }

    /// Adds all diagnostics of `other`.
    pub(crate) fn append(&mut self, other: Self) {
        other.items.into_iter().for_each(|diagnostic| self.push(diagnostic));
        self.omitted += other.omitted;
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.n_errors > 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns whether further diagnostics are dropped.
    pub(crate) fn is_full(&self) -> bool {
        self.items.len() >= DIAGNOSTICS_MAX
    }
}
