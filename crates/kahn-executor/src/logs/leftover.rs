//! Logs left by an earlier start of the worker.
//!
//! A sealed log is marked by its file permissions, the cheapest place: it is not writable by
//! anybody.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use kahn_model::{AttemptId, Token};

use super::reader::LogReader;

const LAST_LINE: &str = "[kahn] the worker was ended here; what was printed last may be missing\n";

/// A log left by an earlier start of the worker.
#[derive(Debug)]
pub struct Leftover {
    /// The attempt that wrote it.
    pub attempt: AttemptId,
    /// The lease under which it was written.
    pub token: Token,
    /// Reads the log, which does not grow any more.
    pub reader: LogReader,
}

impl Leftover {
    /// Opens a log. If it was not sealed, a last line that says so is added.
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

/// Marks a log as sealed on disk.
pub(super) fn mark_sealed(file: &File, path: &Path) {
    if let Err(error) = file.set_permissions(Permissions::from_mode(0o400)) {
        // The only consequence is that the log appears to be cut if the worker crashes.
        tracing::debug!(path = %path.display(), %error, "log is not marked as sealed");
    }
}
