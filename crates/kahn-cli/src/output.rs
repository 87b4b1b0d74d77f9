//! Writes to stdout and stderr. Only the progress of runs is written elsewhere.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::exit::Failure;

/// The output format of results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Human-readable text.
    #[default]
    Text,
    /// JSON: one object, or one object per line.
    Json,
}

/// Prints text without adding a line feed.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Prints raw bytes to a pipe or a file.
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

/// Prints objects, one per line, with a single write.
pub(crate) fn json_lines<T: Serialize>(values: impl Iterator<Item = T>) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for value in values {
        serde_json::to_writer(&mut lines, &value).map_err(io::Error::from)?;
        lines.push(b'\n');
    }
    bytes(&lines)
}

/// Prints a note on stderr. Write errors are ignored.
pub(crate) fn note(text: &str) {
    drop(writeln!(anstream::stderr().lock(), "{text}"));
}

/// Returns whether stdout is a terminal, which interprets escape sequences.
pub(crate) fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stdout())
}
