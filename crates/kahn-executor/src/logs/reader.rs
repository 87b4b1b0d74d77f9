//! Reads logs for shipping.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::writer::Progress;

/// The maximum size of a [`Chunk`] in bytes.
pub const CHUNK_BYTES_MAX: usize = 64 << 10;

/// A part of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its offset in the log, in bytes.
    pub offset: u64,
    /// The bytes as they were printed; never empty. They may start and end within a line or a
    /// character.
    pub bytes: Bytes,
}

/// Reads a log from an offset to its end, and waits for data that is not written yet.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    offset: u64,
    source: Source,
    file: Option<Arc<File>>,
}

#[derive(Debug)]
enum Source {
    /// There is still a writer.
    Following(watch::Receiver<Progress>),
    /// There is no writer; the log has this many bytes.
    Sealed(u64),
}

impl LogReader {
    pub(super) fn following(
        path: PathBuf,
        offset: u64,
        progress: watch::Receiver<Progress>,
    ) -> Self {
        Self { path, offset, source: Source::Following(progress), file: None }
    }

    pub(super) fn sealed(path: PathBuf, offset: u64, len: u64) -> Self {
        Self { path, offset, source: Source::Sealed(len), file: None }
    }

    /// Returns the offset of the next chunk. At the end this is the length of the log.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Continues at another offset.
    pub fn seek(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Waits until the log has a first byte or is sealed. Returns whether it is sealed and empty.
    pub async fn is_silent(&mut self) -> bool {
        self.wait_for_more().await <= self.offset
    }

    /// Waits for data at the offset and returns it, or `None` at the end of a sealed log.
    /// Cancellation safe.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read. The call may be retried.
    pub async fn next(&mut self) -> io::Result<Option<Chunk>> {
        let len = self.wait_for_more().await;
        let Some(n_more) = len.checked_sub(self.offset).filter(|&n| n > 0) else {
            self.file = None;
            return Ok(None);
        };
        let n_wanted = usize::try_from(n_more).unwrap_or(usize::MAX).min(CHUNK_BYTES_MAX);
        let bytes = self.read(n_wanted).await?;
        let offset = self.offset;
        self.offset += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if len <= self.offset {
            // Thousands of logs may wait for more, or for a receipt.
            self.file = None;
        }
        Ok(Some(Chunk { offset, bytes: bytes.into() }))
    }

    /// Waits until the log is longer than the offset or is sealed, and returns its length.
    async fn wait_for_more(&mut self) -> u64 {
        match &mut self.source {
            Source::Sealed(len) => *len,
            Source::Following(progress) => {
                let offset = self.offset;
                let has_more = |progress: &Progress| progress.is_sealed || offset < progress.len;
                // A writer seals the log when it is dropped, so an error needs no special handling.
                let waited = progress.wait_for(has_more).await.map(|progress| progress.len);
                waited.unwrap_or_else(|_| progress.borrow().len)
            }
        }
    }

    async fn read(&mut self, n_wanted: usize) -> io::Result<Vec<u8>> {
        let (path, offset, file) = (self.path.clone(), self.offset, self.file.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(File::open(path)?),
            };
            let mut bytes = vec![0; n_wanted];
            file.read_exact_at(&mut bytes, offset)?;
            io::Result::Ok((file, bytes))
        });
        let (file, bytes) = reading.await.map_err(io::Error::other)??;
        self.file = Some(file);
        Ok(bytes)
    }
}
