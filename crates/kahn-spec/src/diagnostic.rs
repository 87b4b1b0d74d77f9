//! What is wrong with a DAG file, where, and what would mend it.

mod place;
mod render;

use std::ops::Range;

use serde::Serialize;

use crate::span::Span;
use place::Lines;

/// Most diagnostics that are collected for one file.
pub const DIAGNOSTICS_MAX: usize = 50;

/// Longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 500;
/// Longest advice, in bytes.
const HELP_BYTES_MAX: usize = 2000;

/// What sort of mistake it is; stable, for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Not UTF-8, not YAML or JSON, or nested or repeated beyond reason.
    Syntax,
    /// A field that does not exist.
    UnknownField,
    /// A field that must be there and is not.
    MissingField,
    /// A key given twice.
    DuplicateKey,
    /// A value of the wrong type or out of range.
    InvalidValue,
    /// Fields that exclude each other.
    Conflict,
    /// A name that breaks the rules for names, or that two things share.
    InvalidName,
    /// A task, output or instance that does not exist.
    UnknownTask,
    /// A parameter that is not declared, not given or of the wrong type.
    Parameter,
    /// An expression that cannot be read, or is refused.
    Expression,
    /// An expression where none is allowed.
    Injection,
    /// Tasks that depend on each other in a circle.
    Cycle,
    /// More than the limits allow.
    Limit,
    /// A task that no worker can run.
    Infeasible,
    /// Something that this version does not do yet.
    Unsupported,
}

impl Code {
    /// The word for it in JSON and on the terminal.
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

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken, and may not do what was meant.
    Warning,
}

/// A place in the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Label {
    /// From and to, in bytes from the start of the file.
    pub range: Range<usize>,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is to be seen there; may be empty.
    pub text: String,
}

/// One thing that is wrong, or suspicious.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// What sort of mistake.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: a lower-case fragment that names the thing.
    pub message: String,
    /// Where; the first is the place itself, others explain it. Empty when the place is not known
    /// or not in the file.
    pub labels: Vec<Label>,
    /// What would mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at no place yet.
    pub(crate) fn error(code: Code, message: impl Into<String>) -> Self {
        let message = place::short(&message.into(), MESSAGE_BYTES_MAX);
        Self { code, severity: Severity::Error, message, labels: Vec::new(), help: None }
    }

    /// A warning at no place yet.
    pub(crate) fn warning(code: Code, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// The same, pointing at `span` too.
    pub(crate) fn at(self, span: Span) -> Self {
        self.label(span, "")
    }

    /// The same, pointing at `span` too and saying what is there.
    pub(crate) fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        if let Some(range) = span.range() {
            let text = place::short(&text.into(), MESSAGE_BYTES_MAX);
            self.labels.push(Label { range, line: 0, column: 0, text });
        }
        self
    }

    /// The same, with advice.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        self.maybe_help(Some(help.into()))
    }

    /// The same, with advice if there is any.
    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.map(|text| place::short(&text, HELP_BYTES_MAX)).or(self.help);
        self
    }
}

/// All that was found in one file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    /// The name of the file, as given.
    pub origin: String,
    /// At least one, and at most [`DIAGNOSTICS_MAX`].
    pub items: Vec<Diagnostic>,
    /// How many more were found and not kept.
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

    /// As text for a person: each with its line, column and excerpt. Holds no colour and no other
    /// terminal control characters than line feeds.
    #[must_use]
    pub fn render(&self) -> String {
        render::all(self, false)
    }

    /// The same with colours of ANSI terminals.
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

/// Collects diagnostics up to the cap.
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

    pub(crate) fn has_errors(&self) -> bool {
        self.n_errors > 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether no more will be kept.
    pub(crate) fn is_full(&self) -> bool {
        self.items.len() >= DIAGNOSTICS_MAX
    }
}
