//! Output of attempts, stored in one file each until it is shipped.
//!
//! A file is created with the first byte, so that an attempt without output costs nothing. Standard
//! output and standard error go to the same file, in the order of their writes. Bytes are stored
//! unchanged; whoever displays them must escape them. Nothing is synced to disk: the end of a log
//! may be lost if the host fails, but then the attempt is lost as well. A file without write
//! permission is sealed. Logs left by an earlier start of the worker are shipped by the next one.

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

/// The default size limit of one attempt's log, in bytes.
pub const LOG_BYTES_MAX: u64 = 16 << 20;
/// The default limit of the sustained output rate of an attempt, in bytes per second. Reading and
/// discarding this much takes a few percent of a CPU, whereas unlimited output would occupy a whole
/// one.
pub const LOG_RATE: u64 = 64 << 20;

const NO_LEASE: Token = Token { epoch: 0, serial: 0, nonce: 0 };

/// The directory of a worker's log files.
#[derive(Clone, Debug)]
pub struct LogDir {
    dir: PathBuf,
    cap: u64,
    /// In bytes per second.
    rate: u64,
}

impl LogDir {
    /// Opens the directory, and creates it if it does not exist. The first `cap` bytes of each
    /// attempt's output are kept and the rest is discarded, which the last line of the log then
    /// says.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be created.
    pub fn open(dir: &Path, cap: u64) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self { dir: dir.to_owned(), cap, rate: LOG_RATE })
    }

    /// Sets the limit of the sustained output rate of an attempt, in bytes per second.
    #[must_use]
    pub fn with_rate(self, rate: u64) -> Self {
        Self { rate, ..self }
    }

    /// Returns a writer for the log of an attempt without a lease.
    #[must_use]
    pub fn writer(&self, attempt: AttemptId) -> LogWriter {
        self.writer_under(attempt, NO_LEASE)
    }

    /// Returns a writer for the log of an attempt under a lease.
    #[must_use]
    pub fn writer_under(&self, attempt: AttemptId, token: Token) -> LogWriter {
        LogWriter::new(self.path(attempt, token), self.cap, self.rate)
    }

    /// Returns a writer that continues the log of an attempt under a lease.
    #[must_use]
    pub fn resume_under(&self, attempt: AttemptId, token: Token) -> LogWriter {
        LogWriter::resumed(self.path(attempt, token), self.cap, self.rate)
    }

    /// Returns the attempts that have a log. Right after a start these are from earlier boots.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be read.
    pub fn attempts(&self) -> io::Result<Vec<AttemptId>> {
        let mut attempts: Vec<_> =
            self.entries()?.into_iter().map(|(attempt, _)| attempt).collect();
        attempts.sort_unstable();
        Ok(attempts)
    }

    /// Returns the logs left by an earlier start of the worker, to be shipped, without those of the
    /// attempts that `goes_on` selects. Must be called before new logs are written.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be read.
    pub fn left_behind(
        &self,
        goes_on: impl Fn(AttemptId, Token) -> bool,
    ) -> io::Result<Vec<Leftover>> {
        let open = |(attempt, token)| {
            let path = self.path(attempt, token);
            match Leftover::open(&path, attempt, token) {
                Ok(leftover) => Some(leftover),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "log of an earlier start cannot be read");
                    None
                }
            }
        };
        let ended =
            self.entries()?.into_iter().filter(|(attempt, token)| !goes_on(*attempt, *token));
        Ok(ended.filter_map(open).collect())
    }

    fn entries(&self) -> io::Result<Vec<(AttemptId, Token)>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            entries.extend(entry?.file_name().to_str().and_then(parse_file_name));
        }
        Ok(entries)
    }

    /// Removes the log of an attempt without a lease, if it exists.
    ///
    /// # Errors
    ///
    /// Returns an error if a file exists and cannot be removed.
    pub fn remove(&self, attempt: AttemptId) -> io::Result<()> {
        self.remove_under(attempt, NO_LEASE)
    }

    /// Removes the log of an attempt under a lease, if it exists, after it was shipped or because
    /// it is not wanted.
    ///
    /// # Errors
    ///
    /// Returns an error if a file exists and cannot be removed.
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
