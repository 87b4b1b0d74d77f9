//! Keeps unacknowledged results of finished attempts across restarts of the worker.
//!
//! The spool is one file of framed records: a put contains an attempt and its result, an ack
//! contains an attempt. Changes are buffered in memory until [`Spool::flush`], so that a batch
//! costs one write. Flushed changes survive a crash of the process, and with [`Durability::Disk`]
//! also a crash of the host. A torn record at the end, left by a crash during a write, is dropped;
//! all records before it are valid.
//!
//! Results are opaque bytes.

mod frame;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kahn_model::AttemptId;

use frame::Record;

/// The file is rewritten when it has more obsolete bytes than this and they are more than half of
/// it.
const DEAD_BYTES_MAX: u64 = 1 << 20;
/// A file without pending results is not truncated up to this size.
const KEEP_BYTES_MAX: u64 = 64 << 10;

const FILE_NAME: &str = "results.spool";

/// The kind of crash that a flushed result survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the process, but not necessarily of the host. A lost result costs another
    /// attempt, never a wrong outcome.
    #[default]
    Process,
    /// A crash of the host: a flush waits for the disk.
    Disk,
}

/// The results that wait for their acknowledgement.
///
/// [`Spool::open`] and [`Spool::flush`] block on file I/O; with [`Durability::Disk`], a flush also
/// waits for the disk.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    file: File,
    durability: Durability,
    /// Length of the file in bytes.
    len: u64,
    /// Bytes of the file and of `unwritten` that belong to `pending` results.
    live_bytes: u64,
    pending: BTreeMap<AttemptId, Bytes>,
    unwritten: Vec<u8>,
}

impl Spool {
    /// Opens the spool in `dir`, creates both if they do not exist, and reads the pending results.
    ///
    /// # Errors
    ///
    /// Fails if the directory or the file cannot be created, read or rewritten. A damaged end of
    /// the file is not an error.
    pub fn open(dir: &Path, durability: Durability) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let bytes = match std::fs::read(dir.join(FILE_NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let mut pending = BTreeMap::new();
        let mut rest = bytes.as_slice();
        while let Some((record, after)) = frame::read(rest) {
            apply(&mut pending, record);
            rest = after;
        }
        if !rest.is_empty() {
            tracing::warn!(n_bytes = rest.len(), "spool ends in a torn record, which is dropped");
        }
        let file = rewrite(dir, &pending, durability)?;
        let len = live_bytes(&pending);
        let unwritten = Vec::new();
        Ok(Self { dir: dir.to_owned(), file, durability, len, live_bytes: len, pending, unwritten })
    }

    /// Adds the result of an attempt, which is kept until it is acknowledged. A second result
    /// replaces the first.
    pub fn put(&mut self, attempt: AttemptId, result: Bytes) {
        frame::write_put(&mut self.unwritten, attempt, &result);
        self.live_bytes += frame::put_len(&result);
        if let Some(old) = self.pending.insert(attempt, result) {
            self.live_bytes -= frame::put_len(&old);
        }
    }

    /// Removes the result of an attempt. Does nothing if there is none.
    pub fn ack(&mut self, attempt: AttemptId) {
        if let Some(old) = self.pending.remove(&attempt) {
            self.live_bytes -= frame::put_len(&old);
            frame::write_ack(&mut self.unwritten, attempt);
        }
    }

    /// Iterates over the pending results, ordered by attempt.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = (AttemptId, &Bytes)> {
        self.pending.iter().map(|(attempt, result)| (*attempt, result))
    }

    /// Returns the pending result of an attempt.
    #[must_use]
    pub fn get(&self, attempt: AttemptId) -> Option<&Bytes> {
        self.pending.get(&attempt)
    }

    /// Returns whether there are unflushed changes.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Writes the changes since the last flush. Occasionally compacts the file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written. No results are lost then: the next flush rewrites the
    /// file.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        if self.is_worth_rewriting() {
            return self.rewrite();
        }
        if let Err(error) = self.append() {
            // The file may end with a partial record, so nothing must be appended to it.
            self.len = u64::MAX;
            return Err(error);
        }
        Ok(())
    }

    fn append(&mut self) -> io::Result<()> {
        self.file.write_all(&self.unwritten)?;
        if self.durability == Durability::Disk {
            self.file.sync_data()?;
        }
        self.len += len_u64(&self.unwritten);
        self.unwritten.clear();
        Ok(())
    }

    fn is_worth_rewriting(&self) -> bool {
        let len = self.len.saturating_add(len_u64(&self.unwritten));
        if self.pending.is_empty() {
            return len > KEEP_BYTES_MAX;
        }
        let dead = len.saturating_sub(self.live_bytes);
        dead > DEAD_BYTES_MAX && dead > self.live_bytes
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let is_intact = self.len < u64::MAX;
        self.len = u64::MAX;
        if is_intact && self.pending.is_empty() {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.len = 0;
            self.unwritten.clear();
            return Ok(());
        }
        self.file = rewrite(&self.dir, &self.pending, self.durability)?;
        self.len = self.live_bytes;
        self.unwritten.clear();
        Ok(())
    }
}

/// Writes the pending results to a new file and renames it over the old one.
fn rewrite(
    dir: &Path,
    pending: &BTreeMap<AttemptId, Bytes>,
    durability: Durability,
) -> io::Result<File> {
    let new_path = dir.join("results.spool.new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new_path)?;
    let mut bytes = Vec::new();
    for (attempt, result) in pending {
        frame::write_put(&mut bytes, *attempt, result);
    }
    file.write_all(&bytes)?;
    if durability == Durability::Disk {
        file.sync_all()?;
    }
    std::fs::rename(&new_path, dir.join(FILE_NAME))?;
    if durability == Durability::Disk {
        File::open(dir)?.sync_all()?;
    }
    Ok(file)
}

fn apply(pending: &mut BTreeMap<AttemptId, Bytes>, record: Record<'_>) {
    match record {
        Record::Put(attempt, result) => {
            pending.insert(attempt, Bytes::copy_from_slice(result));
        }
        Record::Ack(attempt) => {
            pending.remove(&attempt);
        }
    }
}

fn live_bytes(pending: &BTreeMap<AttemptId, Bytes>) -> u64 {
    pending.values().map(frame::put_len).sum()
}

fn len_u64(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
