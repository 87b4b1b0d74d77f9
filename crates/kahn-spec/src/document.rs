//! Reads a DAG file into its raw parts: YAML with source locations, or JSON on a fast path.
//!
//! A JSON file is read a second time only if it has errors. The first pass ignores locations and
//! takes a few seconds for a million tasks. The second pass records them, so that errors can be
//! shown in the source.

mod decode;
mod tree;

use serde::de::DeserializeOwned;

use crate::diagnostic::{Code, Diagnostic, Sink};
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
        let message = format!("the file has {} bytes", bytes.len());
        let help = format!("at most {} bytes are read", limits::DOCUMENT_BYTES_MAX);
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
pub(crate) fn fast<T: DeserializeOwned>(source: &str) -> Option<T> {
    if looks_like_json(source) { serde_json::from_str(source).ok() } else { None }
}

/// Parses the file with locations and reports all structural errors.
pub(crate) fn spanned<T: DeserializeOwned>(source: &str, sink: &mut Sink) -> Option<T> {
    if let Some(diagnostic) = json_error::<T>(source) {
        sink.push(diagnostic);
        return None;
    }
    let root = match tree::parse(source) {
        Ok(root) => root,
        Err(error) if error.code == Code::DuplicateKey => {
            sink.push(error);
            return None;
        }
        Err(error) => {
            let fallback = too_large_json::<T>(source);
            sink.push(fallback.unwrap_or(error));
            return None;
        }
    };
    decode::decode(&root, source, sink)
}

/// Returns a JSON syntax error, which the JSON parser explains better than the YAML parser. Returns
/// `None` for YAML in flow style, which is not JSON but starts with a brace.
fn json_error<T: DeserializeOwned>(source: &str) -> Option<Diagnostic> {
    if !looks_like_json(source) {
        return None;
    }
    let error = serde_json::from_str::<T>(source).err()?;
    let is_broken = error.is_syntax() || error.is_eof();
    (is_broken && tree::parse(source).is_err()).then(|| json_diagnostic(source, &error))
}

/// Returns the error of a JSON file that is too large to be read with locations.
fn too_large_json<T: DeserializeOwned>(source: &str) -> Option<Diagnostic> {
    if !looks_like_json(source) {
        return None;
    }
    serde_json::from_str::<T>(source).err().map(|error| json_diagnostic(source, &error))
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
