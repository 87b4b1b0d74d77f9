//! Writes the log of an attempt.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::leftover;
use super::rate::RateLimiter;
use super::reader::LogReader;
use crate::secrets::{Mask, MaskStream};

/// The state of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bytes in the file.
    pub(super) len: u64,
    /// Whether the log is complete.
    pub(super) is_sealed: bool,
}

/// The only writer of an attempt's log. Dropping it seals the log.
pub struct LogWriter {
    path: PathBuf,
    cap: u64,
    progress: watch::Sender<Progress>,
    inner: Mutex<Inner>,
    rate_limiter: RateLimiter,
}

#[derive(Default)]
struct Inner {
    file: Option<File>,
    /// The number of bytes to skip.
    n_to_skip: u64,
    /// The number of discarded bytes.
    n_dropped: u64,
    ends_in_newline: bool,
    error: Option<io::Error>,
    /// Masks the output of an attempt that was given secrets.
    mask: Option<MaskStream>,
}

impl LogWriter {
    pub(super) fn new(path: PathBuf, cap: u64, rate: u64) -> Self {
        let (progress, _) = watch::channel(Progress::default());
        Self { path, cap, progress, inner: Mutex::default(), rate_limiter: RateLimiter::new(rate) }
    }

    /// Continues a log that an earlier start of the worker began.
    pub(super) fn resumed(path: PathBuf, cap: u64, rate: u64) -> Self {
        let writer = Self::new(path, cap, rate);
        match OpenOptions::new().append(true).open(&writer.path) {
            Ok(file) => {
                let len = file.metadata().map_or(0, |meta| meta.len());
                writer.lock().file = Some(file);
                writer.grow(len);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => writer.lock().error = Some(error),
        }
        writer
    }

    /// Skips this many of the bytes that are appended next, since the log has them already.
    pub fn skip(&self, n_bytes: u64) {
        self.lock().n_to_skip = n_bytes;
    }

    /// Waits until `n_bytes` that were printed are within the rate.
    pub async fn throttle(&self, n_bytes: usize) {
        self.rate_limiter.acquire(to_u64(n_bytes)).await;
    }

    /// Appends bytes up to the size limit, and counts the rest.
    ///
    /// Blocks like any write to a file. It does not fail, since a full disk under the log must not
    /// affect the task. The last line of the log tells what is missing.
    pub fn append(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        let masked = inner.mask.as_mut().map(|mask| mask.push(bytes));
        self.keep(&mut inner, masked.as_deref().unwrap_or(bytes));
    }

    /// Masks everything that is appended from now on. A possible prefix of a secret is held back
    /// until it is decided, at the latest when the log is sealed.
    pub fn mask(&self, mask: Mask) {
        self.lock().mask = Some(mask.stream());
    }

    fn keep(&self, inner: &mut Inner, bytes: &[u8]) {
        let bytes = inner.without_skipped(bytes);
        let len = self.len();
        let room = usize::try_from(self.cap.saturating_sub(len)).unwrap_or(usize::MAX);
        let (kept, dropped) = bytes.split_at(bytes.len().min(room));
        if self.is_sealed() || inner.error.is_some() {
            inner.n_dropped += to_u64(bytes.len());
            return;
        }
        inner.n_dropped += to_u64(dropped.len());
        if kept.is_empty() {
            return;
        }
        match inner.write(&self.path, kept) {
            Ok(()) => self.grow(to_u64(kept.len())),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "log is cut");
                inner.n_dropped += to_u64(kept.len());
                inner.error = Some(error);
            }
        }
    }

    /// Seals the log. Bytes appended later are discarded, and further calls have no effect.
    pub fn seal(&self) {
        let mut inner = self.lock();
        if self.is_sealed() {
            return;
        }
        if let Some(rest) = inner.mask.take().map(|mut mask| mask.finish()) {
            self.keep(&mut inner, &rest);
        }
        if inner.n_dropped > 0 {
            let line = inner.last_line(self.cap);
            // If the log could not be written, neither may this line.
            if inner.write(&self.path, line.as_bytes()).is_ok() {
                self.grow(to_u64(line.len()));
            }
        }
        if let Some(file) = inner.file.take() {
            leftover::mark_sealed(&file, &self.path);
        }
        self.progress.send_modify(|progress| progress.is_sealed = true);
    }

    /// Returns a reader that starts at `offset` and follows the log to its end.
    #[must_use]
    pub fn reader(&self, offset: u64) -> LogReader {
        LogReader::following(self.path.clone(), offset, self.progress.subscribe())
    }

    /// Returns the number of bytes in the file.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.progress.borrow().len
    }

    /// Returns whether nothing was printed so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the log is full, so that further bytes are only counted.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() >= self.cap
    }

    fn is_sealed(&self) -> bool {
        self.progress.borrow().is_sealed
    }

    fn grow(&self, by: u64) {
        self.progress.send_modify(|progress| progress.len += by);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn without_skipped<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let n_skipped = self.n_to_skip.min(to_u64(bytes.len()));
        self.n_to_skip -= n_skipped;
        &bytes[usize::try_from(n_skipped).unwrap_or(bytes.len())..]
    }

    fn write(&mut self, path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600);
                self.file.insert(options.open(path)?)
            }
        };
        file.write_all(bytes)?;
        self.ends_in_newline = bytes.last() == Some(&b'\n');
        Ok(())
    }

    fn last_line(&self, cap: u64) -> String {
        let start = if self.ends_in_newline { "" } else { "\n" };
        let dropped = self.n_dropped;
        match &self.error {
            Some(error) => format!("{start}[kahn] log cut, {dropped} bytes dropped: {error}\n"),
            None => format!("{start}[kahn] log cut after {cap} bytes, {dropped} bytes dropped\n"),
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.seal();
    }
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter")
            .field("path", &self.path)
            .field("progress", &*self.progress.borrow())
            .finish_non_exhaustive()
    }
}

fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
