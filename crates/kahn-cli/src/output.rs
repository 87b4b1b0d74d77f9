//! What goes to stdout and stderr. Nothing else writes there, but for the progress of runs.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::exit::Failure;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one object, or one object per line.
    Json,
}

/// Prints text; it ends with a line feed already or has none.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Prints bytes as they are, to a pipe or a file.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

/// Prints one object on one line.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(value).map_err(io::Error::from)?;
    line.push(b'\n');
    bytes(&line)
}

/// Prints many objects, one on each line, with one write.
pub(crate) fn json_lines<T: Serialize>(values: impl Iterator<Item = T>) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for value in values {
        serde_json::to_writer(&mut lines, &value).map_err(io::Error::from)?;
        lines.push(b'\n');
    }
    bytes(&lines)
}

/// Says something beside the results, on stderr. That nobody reads it is no fault.
pub(crate) fn note(text: &str) {
    drop(writeln!(anstream::stderr().lock(), "{text}"));
}

/// Whether stdout is a terminal, where escapes would be obeyed.
pub(crate) fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stdout())
}
