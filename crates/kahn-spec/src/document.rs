//! Reads a DAG file into its raw parts: YAML with source locations, or JSON on a fast path.
//!
//! A JSON file is read a second time only if it has errors. The first pass ignores locations and
//! takes a few seconds for a million tasks. The second pass records them, so that errors can be
//! shown in the source.

mod decode;
mod limit;
mod parse;
mod tree;

use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::raw::RawFile;
use crate::span::Span;
use crate::suggest;
use kahn_model::limits;

/// Returns whether the file may be JSON, judging by its first character.
fn looks_like_json(source: &str) -> bool {
    source.trim_start().starts_with('{')
}

/// Checks the size and the encoding of the file and returns its text.
pub(crate) fn text<'a>(bytes: &'a [u8], sink: &mut Sink) -> Option<&'a str> {
    if bytes.len() > limits::DOCUMENT_BYTES_MAX {
        let max = limits::DOCUMENT_BYTES_MAX;
        let message = format!("the file has {} bytes; at most {max} are read", bytes.len());
        let help = "describe similar tasks by one task with a `matrix`, or split the DAG";
        sink.push(Diagnostic::error(Code::Limit, message).help(help));
        return None;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            let message = format!(
                "the file is not UTF-8: byte {} (in line {}) is invalid",
                error.valid_up_to(),
                line + 1
            );
            sink.push(Diagnostic::error(Code::Syntax, message));
            None
        }
    }
}

/// Parses the file without locations, if it is valid JSON.
pub(crate) fn fast(source: &str) -> Option<RawFile> {
    if looks_like_json(source) { serde_json::from_str(source).ok() } else { None }
}

/// Parses the file with locations and reports all structural errors.
pub(crate) fn spanned(source: &str, sink: &mut Sink) -> Option<RawFile> {
    match parse::parse(source, sink) {
        Ok(file) => file,
        Err(error) => {
            sink.push(json_error(source, &error).unwrap_or(error));
            None
        }
    }
}

/// Returns the error of a JSON file. The JSON parser explains it better than the YAML parser, whose
/// error is `error`, except for keys that occur twice, which are valid JSON, and for limits.
fn json_error(source: &str, error: &Diagnostic) -> Option<Diagnostic> {
    if !looks_like_json(source) || error.code == Code::DuplicateKey {
        return None;
    }
    let found = serde_json::from_str::<RawFile>(source).err()?;
    (error.code != Code::Limit || found.is_data()).then(|| json_diagnostic(source, &found))
}

fn json_diagnostic(source: &str, error: &serde_json::Error) -> Diagnostic {
    let text = error.to_string();
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    let (message, known) = message.split_once(", expected one of ").unwrap_or((message, ""));
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let word = message.split('`').nth(1).unwrap_or("");
    let help = suggest::nearest(word, known).map(|near| format!("did you mean `{near}`?"));
    let code = match error.is_data() {
        true if message.starts_with("unknown field") => Code::UnknownField,
        true if message.starts_with("duplicate") => Code::DuplicateKey,
        true => Code::InvalidValue,
        false => Code::Syntax,
    };
    let start: usize =
        source.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let mut at = (start + error.column().saturating_sub(1)).min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    let end = source[at..].chars().next().map_or(at, |c| at + c.len_utf8());
    Diagnostic::error(code, message).at(Span::new(at, end)).maybe_help(help)
}
