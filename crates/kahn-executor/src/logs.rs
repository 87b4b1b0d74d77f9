//! What attempts print: kept in one file each until it has been shipped.
//!
//! A file is made with the first byte, so that a silent attempt costs nothing. Standard output
//! and standard error go to the same file, in the order of their writes. Bytes are kept as they
//! come: escaping them is the business of whoever shows them. Nothing is synced to disk: a log
//! may lose its end with the machine, and the attempt is lost with it anyway. A file that may not
//! be written is sealed; what an earlier start of the worker left behind is shipped by the next.

mod leftover;
mod rate;
mod reader;
mod writer;

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use kahn_model::{AttemptId, RunId, TaskIx, Token};

pub use leftover::Leftover;
pub use reader::{CHUNK_BYTES_MAX, Chunk, LogReader};
pub use writer::LogWriter;

/// How much of one attempt's output is kept, in bytes, unless configured otherwise.
pub const LOG_BYTES_MAX: u64 = 16 << 20;
/// How fast an attempt may print for long, in bytes per second, unless configured otherwise. To
/// read so much and drop it takes a few percent of a processor, where a task that prints without
/// end would have the worker take a whole one.
pub const LOG_RATE: u64 = 64 << 20;

const NO_LEASE: Token = Token { epoch: 0, serial: 0, nonce: 0 };

/// The directory of the log files of one worker.
#[derive(Clone, Debug)]
pub struct LogDir {
    dir: PathBuf,
    cap: u64,
    /// Bytes in each second.
    rate: u64,
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
        Ok(Self { dir: dir.to_owned(), cap, rate: LOG_RATE })
    }

    /// With another rate at which an attempt may print for long, in bytes per second.
    #[must_use]
    pub fn with_rate(self, rate: u64) -> Self {
        Self { rate, ..self }
    }

    /// Where the output of an attempt goes that no lease is known of.
    #[must_use]
    pub fn writer(&self, attempt: AttemptId) -> LogWriter {
        self.writer_under(attempt, NO_LEASE)
    }

    /// Where the output of an attempt goes that is carried out under a lease.
    #[must_use]
    pub fn writer_under(&self, attempt: AttemptId, token: Token) -> LogWriter {
        LogWriter::new(self.path(attempt, token), self.cap, self.rate)
    }

    /// The attempts of which there is a log; right after a start, those of earlier boots.
    ///
    /// # Errors
    ///
    /// Fails when the directory cannot be read.
    pub fn attempts(&self) -> io::Result<Vec<AttemptId>> {
        let mut attempts: Vec<_> =
            self.entries()?.into_iter().map(|(attempt, _)| attempt).collect();
        attempts.sort_unstable();
        Ok(attempts)
    }

    /// What an earlier start of the worker left behind, to be shipped. To be asked before anything
    /// new is written.
    ///
    /// # Errors
    ///
    /// Fails when the directory cannot be read.
    pub fn left_behind(&self) -> io::Result<Vec<Leftover>> {
        let open = |(attempt, token)| {
            let path = self.path(attempt, token);
            match Leftover::open(&path, attempt, token) {
                Ok(leftover) => Some(leftover),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "output of an earlier start is lost");
                    None
                }
            }
        };
        Ok(self.entries()?.into_iter().filter_map(open).collect())
    }

    fn entries(&self) -> io::Result<Vec<(AttemptId, Token)>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            entries.extend(entry?.file_name().to_str().and_then(parse_file_name));
        }
        Ok(entries)
    }

    /// Removes the log of an attempt that no lease is known of, if there is one.
    ///
    /// # Errors
    ///
    /// Fails when a file is there and cannot be removed.
    pub fn remove(&self, attempt: AttemptId) -> io::Result<()> {
        self.remove_under(attempt, NO_LEASE)
    }

    /// Removes the log of an attempt under a lease, if there is one: it was shipped, or nobody
    /// wants it.
    ///
    /// # Errors
    ///
    /// Fails when a file is there and cannot be removed.
    pub fn remove_under(&self, attempt: AttemptId, token: Token) -> io::Result<()> {
        match std::fs::remove_file(self.path(attempt, token)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn path(&self, attempt: AttemptId, token: Token) -> PathBuf {
        let AttemptId { run, task, number } = attempt;
        let Token { epoch, serial, nonce } = token;
        self.dir.join(format!("{run}.{}.{number}.{epoch}.{serial}.{nonce}.log", task.0))
    }
}

fn parse_file_name(name: &str) -> Option<(AttemptId, Token)> {
    let mut parts = name.strip_suffix(".log")?.split('.');
    let run = parts.next()?.parse::<RunId>().ok()?;
    let task = TaskIx(parts.next()?.parse().ok()?);
    let number = parts.next()?.parse().ok()?;
    let mut next = || parts.next()?.parse().ok();
    let token = Token { epoch: next()?, serial: next()?, nonce: next()? };
    parts.next().is_none().then_some((AttemptId { run, task, number }, token))
}

#[cfg(test)]
mod tests;
