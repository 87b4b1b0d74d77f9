//! The objects of archived runs: `history/RUN/DIGEST.PART`.
//!
//! A large document has several parts, so that each request ends within the timeout of the store.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kahn_blob::{BlobError, BlobStore, Entry, Key};
use kahn_core::ArchiveRef;
use kahn_model::RunId;

use super::HistoryError;

/// The group of all objects of archived runs.
const GROUP: &str = "history";
/// The size of a part; the last one may be smaller.
const PART_BYTES: usize = 8 << 20;

#[derive(Debug)]
pub(super) struct Objects {
    store: BlobStore,
}

impl Objects {
    pub(super) fn new(store: BlobStore) -> Self {
        Self { store }
    }

    pub(super) async fn put(
        &self,
        run: RunId,
        archive: ArchiveRef,
        document: Bytes,
    ) -> Result<(), HistoryError> {
        for (part, start) in (0..document.len()).step_by(PART_BYTES).enumerate() {
            let end = document.len().min(start + PART_BYTES);
            let key = part_key(run, archive, part);
            let put = self.store.put(&key, document.slice(start..end)).await;
            put.map_err(|source| HistoryError::Store { run, source: source.into() })?;
        }
        Ok(())
    }

    /// Reads a document, whose content is not checked.
    pub(super) async fn get(&self, run: RunId, archive: ArchiveRef) -> Result<Bytes, HistoryError> {
        let mut document = BytesMut::new();
        for part in 0..n_parts(archive) {
            let key = part_key(run, archive, part);
            let read = self.store.get_range(&key, 0..bytes_of(PART_BYTES)).await;
            let read = read.map_err(|source| HistoryError::Store { run, source: source.into() })?;
            let missing = || HistoryError::Missing { run, object: key.to_string() };
            document.extend_from_slice(&read.ok_or_else(missing)?);
        }
        Ok(document.freeze())
    }

    pub(super) async fn remove(&self, run: RunId) -> Result<(), HistoryError> {
        let removed = self.store.remove_group(&of_run(run), None).await;
        removed.map_err(|source| HistoryError::Store { run, source: source.into() })
    }

    pub(super) async fn remove_if_older(
        &self,
        run: RunId,
        age: Duration,
    ) -> Result<bool, HistoryError> {
        let listed = self.list(run).await?;
        let latest = listed.iter().map(|entry| entry.modified).max();
        if latest.is_none_or(|latest| latest.elapsed().unwrap_or_default() < age) {
            return Ok(false);
        }
        self.remove(run).await?;
        Ok(true)
    }

    pub(super) async fn runs(&self) -> Result<Vec<RunId>, BlobError> {
        let groups = self.store.groups(&key(GROUP.to_owned())).await?;
        Ok(groups.iter().filter_map(|group| group.last_part().parse().ok()).collect())
    }

    async fn list(&self, run: RunId) -> Result<Vec<Entry>, HistoryError> {
        let listed = self.store.list(&of_run(run)).await;
        listed.map_err(|source| HistoryError::Store { run, source: source.into() })
    }
}

fn key(name: String) -> Key {
    Key::new(name).expect("invariant: ids and digests are valid in names")
}

fn of_run(run: RunId) -> Key {
    key(format!("{GROUP}/{run}"))
}

fn part_key(run: RunId, archive: ArchiveRef, part: usize) -> Key {
    let digest = u128::from_be_bytes(archive.digest);
    key(format!("{GROUP}/{run}/{digest:032x}.{part}"))
}

fn bytes_of(n: usize) -> u64 {
    u64::try_from(n).expect("invariant: u64 holds usize")
}

fn n_parts(archive: ArchiveRef) -> usize {
    let n = archive.bytes.div_ceil(bytes_of(PART_BYTES));
    usize::try_from(n).unwrap_or(usize::MAX)
}
