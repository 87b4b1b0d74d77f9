//! The file into which a task writes its outputs.
//!
//! Each line is one output: `name=text` for a string, or `name:=json` for any JSON value. The last
//! of several lines with the same name wins. Empty lines are skipped. Anything else is an error
//! that names the line, because a silently ignored output would be discovered much too late.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use kahn_model::limits::OUTPUT_BYTES_MAX;
use kahn_model::{Name, Outputs, Value};
use rustix::fs::OFlags;

/// An error in the outputs of an attempt. Lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The file cannot be read.
    #[error("cannot read the outputs: {0}")]
    Read(#[from] io::Error),
    /// The task replaced the file with something else, such as a link or a pipe.
    #[error("$KAHN_OUTPUT is not a regular file")]
    NotAFile,
    /// The outputs exceed the size limit.
    #[error("outputs have more than {OUTPUT_BYTES_MAX} bytes")]
    TooLong,
    /// A line is not UTF-8.
    #[error("line {line} of $KAHN_OUTPUT is not valid UTF-8")]
    NotUtf8 {
        /// The line.
        line: usize,
    },
    /// A line sets nothing.
    #[error("line {line} of $KAHN_OUTPUT is neither `name=text` nor `name:=json`: {text:?}")]
    NoName {
        /// The line.
        line: usize,
        /// Its text.
        text: String,
    },
    /// The name is not allowed for an output.
    #[error("line {line} of $KAHN_OUTPUT: {reason}")]
    BadName {
        /// The line.
        line: usize,
        /// What is wrong with the name.
        reason: kahn_model::InvalidName,
    },
    /// The value after `:=` is not JSON.
    #[error("line {line} of $KAHN_OUTPUT: value of `{name}` is not JSON: {reason}")]
    NotJson {
        /// The line.
        line: usize,
        /// The name of the output.
        name: String,
        /// The parser's message.
        reason: String,
    },
}

/// Reads the outputs file of an attempt. A missing file means no outputs.
///
/// # Errors
///
/// Returns an [`OutputError`] that names the line.
pub fn read(path: &Path) -> Result<Outputs, OutputError> {
    // Opening a FIFO created by the task must not block.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).expect("invariant: flags are an int");
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Outputs::default()),
        Err(error) if is_link(&error) => return Err(OutputError::NotAFile),
        file => file?,
    };
    parse(&read_all(&file)?)
}

fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

fn read_all(file: &File) -> Result<Vec<u8>, OutputError> {
    if !file.metadata()?.is_file() {
        return Err(OutputError::NotAFile);
    }
    // A file within the limit consists of the values and short separators.
    let max = 2 * OUTPUT_BYTES_MAX;
    let mut bytes = Vec::new();
    file.take(u64::try_from(max).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    if bytes.len() < max { Ok(bytes) } else { Err(OutputError::TooLong) }
}

/// Parses the content of an outputs file.
///
/// # Errors
///
/// Returns an [`OutputError`] that names the line.
pub fn parse(bytes: &[u8]) -> Result<Outputs, OutputError> {
    let mut outputs = Outputs::default();
    for (line, text) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        let text = std::str::from_utf8(text).map_err(|_| OutputError::NotUtf8 { line })?;
        if text.trim().is_empty() {
            continue;
        }
        let (name, value) = parse_line(line, text)?;
        outputs.0.insert(name, value);
    }
    if outputs.is_within_limit() { Ok(outputs) } else { Err(OutputError::TooLong) }
}

fn parse_line(line: usize, text: &str) -> Result<(Box<str>, Value), OutputError> {
    let no_name = || OutputError::NoName { line, text: text.chars().take(80).collect() };
    let (name, value) = text.split_once('=').ok_or_else(no_name)?;
    let (name, json) = match name.strip_suffix(':') {
        Some(name) => (name, check_json(line, name, value)?),
        None => (name, serde_json::Value::from(value).to_string()),
    };
    let name = Name::new(name).map_err(|reason| OutputError::BadName { line, reason })?;
    Ok((name.as_str().into(), Value::from_json(json)))
}

/// Validates a JSON value. The text itself is kept, because parsing and printing a number may
/// change it.
fn check_json(line: usize, name: &str, json: &str) -> Result<String, OutputError> {
    match serde_json::from_str::<serde::de::IgnoredAny>(json) {
        Ok(_) => Ok(json.trim().to_owned()),
        Err(error) => Err(OutputError::NotJson {
            line,
            name: name.chars().take(80).collect(),
            reason: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Vec<(String, String)> {
        let outputs = parse(text.as_bytes()).unwrap();
        outputs
            .0
            .iter()
            .map(|(name, value)| (name.to_string(), value.as_json().to_owned()))
            .collect()
    }

    fn refused(text: impl AsRef<[u8]>) -> String {
        parse(text.as_ref()).unwrap_err().to_string()
    }

    #[test]
    fn text_and_json_are_told_apart() {
        let expected = [
            ("a", r#""1""#),
            ("b", "12345678901234567890123"),
            ("c", r#"{"x": [1, "="]}"#),
            ("d", r#""x=\"y\" é""#),
            ("e", r#""""#),
        ];
        let text =
            "a=0\n\nb:= 12345678901234567890123\nc:={\"x\": [1, \"=\"]}\nd=x=\"y\" é\ne=\na=1";
        assert_eq!(given(text), expected.map(|(name, json)| (name.into(), json.into())));
    }

    #[test]
    fn a_bad_line_is_refused_by_its_number() {
        assert!(refused("a=1\nhello").contains("line 2"));
        assert!(refused("a=1\n\n=x").contains("line 3"));
        assert!(refused("a b=1").contains("line 1"));
        assert!(refused("a:={").contains("line 1") && refused("a:={").contains("`a`"));
        assert!(refused("a:=1 2").contains("line 1"));
        assert!(refused(b"a=1\nb=\xff").contains("line 2"));
    }

    #[test]
    fn outputs_over_the_limit_are_refused() {
        assert_eq!(given(&format!("a={}", "x".repeat(OUTPUT_BYTES_MAX - 3))).len(), 1);
        assert!(refused(format!("a={}", "x".repeat(OUTPUT_BYTES_MAX))).contains("65536"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output");
        std::fs::write(&path, vec![b'\n'; 10 * OUTPUT_BYTES_MAX]).unwrap();
        assert!(matches!(read(&path), Err(OutputError::TooLong)));
    }

    #[test]
    fn what_is_not_a_file_is_refused_and_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output");
        assert_eq!(read(&path).unwrap(), Outputs::default());
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(read(&path), Err(OutputError::NotAFile)));
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(matches!(read(&path), Err(OutputError::NotAFile)));
    }
}
