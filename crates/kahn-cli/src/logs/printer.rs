//! Prints output to stdout, and notes about it to stderr.

use kahn_client::LogPiece;
use serde_json::json;

use super::lines::{Line, Lines};
use crate::exit::Failure;
use crate::output;
use crate::render::plain::Plain;
use crate::render::text;

/// The style in which output is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Unchanged, to a pipe or a file.
    Raw,
    /// With terminal control sequences removed or escaped.
    Plain,
    /// A JSON object per line.
    Json,
}

impl Style {
    /// Chooses the style for stdout. A terminal never gets control characters of tasks.
    pub(crate) fn of(is_json: bool, is_plain: bool) -> Self {
        match (is_json, is_plain || output::is_terminal()) {
            (true, _) => Self::Json,
            (false, true) => Self::Plain,
            (false, false) => Self::Raw,
        }
    }
}

/// Prints the output of one task.
#[derive(Debug)]
pub(crate) struct Printer {
    task: String,
    style: Style,
    /// Whether each line is prefixed by its task.
    is_prefixed: bool,
    attempt: Option<u32>,
    lines: Lines,
    plain: Plain,
}

impl Printer {
    pub(crate) fn new(task: String, style: Style, is_prefixed: bool) -> Self {
        let (lines, plain) = (Lines::default(), Plain::default());
        Self { task, style, is_prefixed, attempt: None, lines, plain }
    }

    /// Prints a piece.
    pub(crate) fn take(&mut self, piece: &LogPiece) -> Result<(), Failure> {
        if self.attempt.is_some_and(|attempt| attempt != piece.attempt) {
            self.finish()?;
            self.note(&format!("attempt {}", piece.attempt));
        }
        self.attempt = Some(piece.attempt);
        self.print(piece.offset, &piece.data)?;
        if piece.is_sealed {
            self.end(piece)?;
        }
        Ok(())
    }

    fn print(&mut self, offset: u64, data: &[u8]) -> Result<(), Failure> {
        if self.is_prefixed || self.style == Style::Json {
            let lines = self.lines.take(offset, data);
            return self.print_lines(lines);
        }
        match self.style {
            Style::Raw | Style::Json => output::bytes(data),
            Style::Plain => output::text(&self.plain.take(data)),
        }
    }

    fn print_lines(&self, lines: Vec<Line>) -> Result<(), Failure> {
        let mut out = Vec::new();
        for line in lines {
            match self.style {
                Style::Json => {
                    out.extend(self.object(&line).to_string().into_bytes());
                    out.push(b'\n');
                }
                Style::Raw => {
                    out.extend(format!("{} | ", self.task).into_bytes());
                    out.extend(line.bytes);
                    out.push(b'\n');
                }
                Style::Plain => {
                    let mut plain = Plain::default();
                    // Includes the line feed, so that a preceding carriage return is not escaped.
                    let text = plain.take(&line.bytes) + &plain.take(b"\n");
                    out.extend(format!("{} | {text}", text::safe(&self.task)).into_bytes());
                }
            }
        }
        output::bytes(&out)
    }

    fn object(&self, line: &Line) -> serde_json::Value {
        let mut object = json!({
            "task": self.task,
            "attempt": self.attempt,
            "offset": line.offset,
            "line": String::from_utf8_lossy(&line.bytes),
        });
        if line.is_partial {
            object["is_partial"] = true.into();
        }
        object
    }

    /// Prints the remaining partial line at the end of the output.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        let rest: Vec<Line> = self.lines.finish().into_iter().collect();
        self.print_lines(rest)?;
        output::text(&self.plain.finish())
    }

    fn end(&mut self, piece: &LogPiece) -> Result<(), Failure> {
        self.finish()?;
        if self.style == Style::Json {
            return output::json(&json!({
                "task": self.task,
                "attempt": piece.attempt,
                "offset": piece.offset,
                "is_end": true,
                "missing": piece.missing,
            }));
        }
        if let Some(why) = &piece.missing {
            self.note(&format!(
                "the output of attempt {} is cut: {}",
                piece.attempt,
                text::safe(why)
            ));
        }
        Ok(())
    }

    /// Prints a note on stderr, unless the style is JSON.
    fn note(&self, words: &str) {
        if self.style != Style::Json {
            output::note(&format!("--- {}: {words} ---", text::safe(&self.task)));
        }
    }
}
