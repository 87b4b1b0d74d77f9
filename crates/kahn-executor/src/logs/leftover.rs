//! Logs that an earlier start of the worker left behind.
//!
//! That a log is sealed is written in the permissions of its file, which costs least: nobody may
//! write it.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use kahn_model::{AttemptId, Token};

use super::reader::LogReader;

const LAST_LINE: &str = "[kahn] the worker was ended here; what was printed last may be missing\n";

/// A log that an earlier start of the worker left behind.
#[derive(Debug)]
pub struct Leftover {
    /// Whose it is.
    pub attempt: AttemptId,
    /// The lease under which it was written.
    pub token: Token,
    /// Reads it; it has an end.
    pub reader: LogReader,
}

impl Leftover {
    /// Opens a log. One that was not sealed gets a last line that says so.
    pub(super) fn open(path: &Path, attempt: AttemptId, token: Token) -> io::Result<Self> {
        let meta = std::fs::metadata(path)?;
        let mut len = meta.len();
        if !meta.permissions().readonly() {
            let mut file = OpenOptions::new().read(true).append(true).open(path)?;
            let start = if ends_in_newline(&file, len)? { "" } else { "\n" };
            file.write_all(format!("{start}{LAST_LINE}").as_bytes())?;
            mark_sealed(&file, path);
            len = file.metadata()?.len();
        }
        Ok(Self { attempt, token, reader: LogReader::sealed(path.to_owned(), 0, len) })
    }
}

fn ends_in_newline(file: &File, len: u64) -> io::Result<bool> {
    let Some(last) = len.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte == *b"\n")
}

/// Notes on the disk that nothing is added to a log any more.
pub(super) fn mark_sealed(file: &File, path: &Path) {
    if let Err(error) = file.set_permissions(Permissions::from_mode(0o400)) {
        // After a crash the log would be taken for one that was cut, and nothing worse.
        tracing::debug!(path = %path.display(), %error, "log is not marked as sealed");
    }
}
