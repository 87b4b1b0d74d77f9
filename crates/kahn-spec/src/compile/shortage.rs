//! Warnings about tasks of a valid file that cannot be run where it was asked for.

use super::groups::Groups;
use crate::diagnostic::{Code, Diagnostic, Diagnostics, Sink};
use crate::document;
use crate::expr::on_large_stack;
use crate::span::Span;

/// A task that cannot be run where it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The task; for many that ask for the same, the first.
    pub task: String,
    /// How many tasks ask for the same.
    pub n_tasks: usize,
    /// What is missing: a fragment such as `this machine has no executor for container`.
    pub message: String,
}

impl Shortage {
    fn warning(&self, help: &str, span: Option<Span>) -> Diagnostic {
        let more = match self.n_tasks {
            0 | 1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let message = format!("task `{}`{more} cannot run: {}", self.task, self.message);
        let warning = Diagnostic::warning(Code::Infeasible, message).help(help);
        match span {
            Some(span) => warning.at(span),
            None => warning,
        }
    }
}

/// Returns a warning for each shortage, with its place in the file. `source` was compiled without
/// errors.
#[must_use]
pub fn diagnose_shortages(
    source: impl AsRef<[u8]>,
    origin: &str,
    shortages: &[Shortage],
    help: &str,
) -> Diagnostics {
    let bytes = source.as_ref();
    let diagnose = || {
        // Nothing new is found in a file that was compiled, unless it is too large for places.
        let mut found = Sink::default();
        let source = document::text(bytes, &mut found).unwrap_or("");
        let file = document::spanned(source, &mut found);
        let groups = file.as_ref().and_then(|file| Groups::build(file, &mut found));
        let place = |task| {
            let groups = groups.as_ref()?;
            groups.find(task).map(|target| groups.get(target.group()).span)
        };
        let mut sink = Sink::default();
        for shortage in shortages {
            sink.push(shortage.warning(help, place(&shortage.task)));
        }
        Diagnostics::new(origin, source, sink)
    };
    on_large_stack(diagnose).unwrap_or_else(|_| Diagnostics::new(origin, "", Sink::default()))
}
