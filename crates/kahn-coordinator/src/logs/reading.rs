//! Reads output: from the local file, or from the blob store what is not there.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use kahn_model::AttemptId;
use tokio::fs;

use super::objects::StoredLog;
use super::uploads::Uploads;
use super::{Extent, Logs, PIECE_BYTES};

impl Logs {
    /// Returns the extent of an attempt's output, or `None` if there is none.
    pub(crate) async fn extent(&self, attempt: AttemptId) -> io::Result<Option<Extent>> {
        // Asked first: when the doubt is settled, the local file may be one that is dropped.
        let doubtful = self.uploads.as_ref().filter(|uploads| uploads.is_doubtful(attempt));
        let base = self.local_base(attempt);
        if let Some(local) = self.local_extent(attempt, base.unwrap_or(0)).await? {
            let longer = match doubtful {
                Some(uploads) => longer_stored(uploads, attempt, local).await,
                None => None,
            };
            return Ok(Some(longer.map_or(local, |stored| stored.extent)));
        }
        let Some(uploads) = &self.uploads else { return Ok(None) };
        let found = uploads.find(attempt).await?;
        Ok(found.owner.map(|_| found.extent))
    }

    async fn local_extent(&self, attempt: AttemptId, base: u64) -> io::Result<Option<Extent>> {
        let paths = self.paths(attempt);
        // Check the seal first, so that everything written before it is counted.
        let is_sealed = fs::try_exists(&paths.sealed).await?;
        match fs::metadata(&paths.log).await {
            Ok(meta) => Ok(Some(Extent { len: base + meta.len(), is_sealed })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads up to 256 KiB from `offset` on; returns an empty result at the end.
    pub(crate) async fn read(&self, attempt: AttemptId, offset: u64) -> io::Result<Bytes> {
        let base = self.local_base(attempt);
        if let Some(uploads) = self.uploads.as_ref().filter(|all| all.is_doubtful(attempt)) {
            let local = self.local_extent(attempt, base.unwrap_or(0)).await?.unwrap_or_default();
            if let Some(stored) = longer_stored(uploads, attempt, local).await {
                return uploads.archive.read(attempt, &stored, offset).await;
            }
        }
        if base.is_none_or(|base| base <= offset) {
            let start = offset - base.unwrap_or(0);
            if let Some(piece) = self.read_file(attempt, start, PIECE_BYTES).await? {
                return Ok(piece);
            }
        }
        match &self.uploads {
            Some(uploads) => {
                let stored = uploads.find(attempt).await?;
                uploads.archive.read(attempt, &stored, offset).await
            }
            None => Ok(Bytes::new()),
        }
    }

    /// Reads all bytes of a range, or returns `None` if the local file does not have them.
    pub(super) async fn read_local(
        &self,
        attempt: AttemptId,
        start: u64,
        end: u64,
    ) -> io::Result<Option<Bytes>> {
        let base = self.local_base(attempt).unwrap_or(0);
        let Some(at) = start.checked_sub(base) else { return Ok(None) };
        let read = self.read_file(attempt, at, end - start).await?;
        Ok(read.filter(|read| u64::try_from(read.len()) == Ok(end - start)))
    }

    /// Returns the offset of the first byte in the local file of an attempt that is being uploaded.
    pub(super) fn local_base(&self, attempt: AttemptId) -> Option<u64> {
        self.uploads.as_ref()?.local_base(attempt)
    }

    /// Reads up to `n_max` bytes of the local file; returns `None` if it does not exist.
    async fn read_file(
        &self,
        attempt: AttemptId,
        start: u64,
        n_max: u64,
    ) -> io::Result<Option<Bytes>> {
        let path = self.paths(attempt).log;
        let blocking = move || {
            let mut file = match File::open(path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            file.seek(SeekFrom::Start(start))?;
            let mut piece = Vec::new();
            file.take(n_max).read_to_end(&mut piece)?;
            Ok(Some(Bytes::from(piece)))
        };
        tokio::task::spawn_blocking(blocking).await.map_err(io::Error::other)?
    }
}

/// Returns what the blob store has of an attempt if it is more than the local file has.
async fn longer_stored(
    uploads: &Uploads,
    attempt: AttemptId,
    local: Extent,
) -> Option<Arc<StoredLog>> {
    // Without an answer there is the local file.
    let stored = uploads.find(attempt).await.ok()?;
    let is_longer = stored.extent.is_sealed || local.len < stored.extent.len;
    is_longer.then_some(stored)
}
