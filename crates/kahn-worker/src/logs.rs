//! What attempts print: kept in one file each until it has been shipped.
//!
//! A file is made with the first byte, so that a silent attempt costs nothing. Standard output
//! and standard error go to the same file, in the order of their writes. Bytes are kept as they
//! come: escaping them is the business of whoever shows them. Nothing is synced to disk: a log
//! may lose its end with the machine, and the attempt is lost with it anyway.

mod reader;
mod writer;

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use kahn_model::{AttemptId, RunId, TaskIx};

pub use reader::{CHUNK_BYTES_MAX, Chunk, LogReader};
pub use writer::LogWriter;

/// How much of one attempt's output is kept, in bytes, unless configured otherwise.
pub const LOG_BYTES_MAX: u64 = 16 << 20;

/// The directory of the log files of one worker.
#[derive(Clone, Debug)]
pub struct LogDir {
    dir: PathBuf,
    cap: u64,
}

impl LogDir {
    /// Opens the directory, and makes it if there is none. Of each attempt's output, `cap` bytes
    /// are kept and the rest is dropped; the last line of the file then says so.
    ///
    /// # Errors
    ///
    /// Fails when the directory cannot be made.
    pub fn open(dir: &Path, cap: u64) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self { dir: dir.to_owned(), cap })
    }

    /// Where the output of an attempt goes. Whatever an earlier boot kept of it is replaced with
    /// the first byte.
    #[must_use]
    pub fn writer(&self, attempt: AttemptId) -> LogWriter {
        LogWriter::new(self.path(attempt), self.cap)
    }

    /// Reads, from `offset`, what an earlier boot of the worker kept of an attempt. It has an
    /// end, since nobody writes to it any more.
    ///
    /// # Errors
    ///
    /// Fails when the size of the file cannot be read; no file is an empty log.
    pub fn leftover_reader(&self, attempt: AttemptId, offset: u64) -> io::Result<LogReader> {
        let path = self.path(attempt);
        let len = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(LogReader::sealed(path, offset, len))
    }

    /// The attempts of which there is a log; right after a start, those of earlier boots.
    ///
    /// # Errors
    ///
    /// Fails when the directory cannot be read.
    pub fn attempts(&self) -> io::Result<Vec<AttemptId>> {
        let mut attempts = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            attempts.extend(entry?.file_name().to_str().and_then(parse_file_name));
        }
        attempts.sort_unstable();
        Ok(attempts)
    }

    /// Removes the log of an attempt, if there is one: it was shipped, or nobody wants it.
    ///
    /// # Errors
    ///
    /// Fails when a file is there and cannot be removed.
    pub fn remove(&self, attempt: AttemptId) -> io::Result<()> {
        match std::fs::remove_file(self.path(attempt)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn path(&self, attempt: AttemptId) -> PathBuf {
        self.dir.join(format!("{}.{}.{}.log", attempt.run, attempt.task.0, attempt.number))
    }
}

fn parse_file_name(name: &str) -> Option<AttemptId> {
    let mut parts = name.strip_suffix(".log")?.split('.');
    let run = parts.next()?.parse::<RunId>().ok()?;
    let task = TaskIx(parts.next()?.parse().ok()?);
    let number = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(AttemptId { run, task, number })
}

#[cfg(test)]
mod tests;
