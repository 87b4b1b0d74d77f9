//! The end from which logs are shipped.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::writer::Progress;

/// Most bytes in one [`Chunk`].
pub const CHUNK_BYTES_MAX: usize = 64 << 10;

/// A piece of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where in the log it begins, in bytes.
    pub offset: u64,
    /// The bytes as they were printed; never empty. They may begin and end within a line or a
    /// character.
    pub bytes: Bytes,
}

/// Reads a log from an offset to its end, waiting for what is not there yet.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    offset: u64,
    source: Source,
    file: Option<Arc<File>>,
}

#[derive(Debug)]
enum Source {
    /// Somebody still writes.
    Following(watch::Receiver<Progress>),
    /// Nobody writes; the log has this many bytes.
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

    /// Where the next chunk begins. Once the end was reached, the length of the log.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes on at another offset.
    pub fn seek(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Waits for the first byte or the seal, and says whether there is nothing to read.
    pub async fn is_silent(&mut self) -> bool {
        self.wait_for_more().await <= self.offset
    }

    /// Waits for bytes at the offset and gives them; `None` when the log is sealed and has no
    /// more. May be dropped and called again without losing a byte.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be read; it may be tried again.
    pub async fn next(&mut self) -> io::Result<Option<Chunk>> {
        let len = self.wait_for_more().await;
        let Some(n_more) = len.checked_sub(self.offset).filter(|&n| n > 0) else {
            return Ok(None);
        };
        let n_wanted = usize::try_from(n_more).unwrap_or(usize::MAX).min(CHUNK_BYTES_MAX);
        let bytes = self.read(n_wanted).await?;
        let offset = self.offset;
        self.offset += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(Some(Chunk { offset, bytes: bytes.into() }))
    }

    /// Returns when the log is longer than the offset, or sealed: its length.
    async fn wait_for_more(&mut self) -> u64 {
        match &mut self.source {
            Source::Sealed(len) => *len,
            Source::Following(progress) => {
                let offset = self.offset;
                let has_more = |progress: &Progress| progress.is_sealed || offset < progress.len;
                // A writer seals before it goes, so an error needs no handling of its own.
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
