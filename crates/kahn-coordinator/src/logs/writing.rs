//! A log that is being written. All calls block for file access.
//!
//! A small file next to the log contains the token of its lease, and the offset of the first byte
//! if what is before it is in the blob store. When the log is sealed, it is replaced by one that
//! has the length of the output, too: after a power loss, the log may be shorter.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use kahn_model::{AttemptId, Token};
use tracing::warn;

use super::objects::StoredLog;
use super::quota::StorageQuota;
use super::uploads::Local;
use super::{Extent, Piece};

/// Allowance beyond the limit of an attempt, for the line in which the worker reports dropped
/// output.
const LAST_LINE_BYTES: u64 = 1 << 10;

/// The paths of a log.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    dir: PathBuf,
    pub log: PathBuf,
    lease: PathBuf,
    /// Exists once the log is complete.
    pub sealed: PathBuf,
}

impl Paths {
    pub(super) fn new(dir: &Path, attempt: AttemptId) -> Self {
        let log = dir.join(format!("{}.{}.log", attempt.task.0, attempt.number));
        let (lease, sealed) = (log.with_extension("lease"), log.with_extension("sealed"));
        Self { dir: dir.to_owned(), log, lease, sealed }
    }

    /// Returns whether a log was started.
    pub(super) fn exist(&self) -> io::Result<bool> {
        Ok(self.sealed.try_exists()? || self.lease.try_exists()?)
    }

    fn unfinished_seal(&self) -> PathBuf {
        self.sealed.with_extension("new")
    }

    /// Removes the log, and returns its size.
    pub(super) fn remove(&self) -> io::Result<u64> {
        let len = optional(std::fs::metadata(&self.log))?.map_or(0, |meta| meta.len());
        // The log comes first: after a crash, a log that has no lease would not be known.
        for path in [&self.log, &self.lease, &self.sealed, &self.unfinished_seal()] {
            optional(std::fs::remove_file(path))?;
        }
        // Fails while other attempts of the run have logs.
        drop(std::fs::remove_dir(&self.dir));
        Ok(len)
    }
}

/// A log that is being written.
#[derive(Debug)]
pub(super) struct Writing {
    paths: Paths,
    owner: Option<Token>,
    file: Option<File>,
    /// The offset of the first byte in the file.
    base: u64,
    extent: Extent,
    /// Whether the log ends in a newline, so that the line about a cut needs none before it.
    ends_in_newline: bool,
    /// The limit that caused output to be dropped, if any. Nothing is stored after that.
    cut_by: Option<String>,
    /// Whether writing failed, so that the extent must be read from disk.
    has_failed: bool,
    /// Whether the files contradict each other, because some of them were lost with the power.
    is_damaged: bool,
}

impl Writing {
    /// Opens a log. If it does not exist, it continues what the blob store has.
    pub(super) fn open(paths: Paths, stored: Option<&StoredLog>) -> io::Result<Self> {
        let len = optional(std::fs::metadata(&paths.log))?.map(|meta| meta.len());
        let sealed = optional(std::fs::read(&paths.sealed))?;
        let is_sealed = sealed.is_some();
        let lease = match sealed {
            Some(found) => Some(found),
            None => optional(std::fs::read(&paths.lease))?,
        };
        let lease = lease.as_deref().map(Lease::parse);
        let is_damaged = match &lease {
            None => len.is_some(),
            Some(None) => true,
            Some(Some(lease)) => lease.end.is_some_and(|end| end != lease.base + len.unwrap_or(0)),
        };
        let len = len.unwrap_or(0);
        let (owner, base, extent) = match (lease, stored) {
            (Some(lease), _) => {
                let base = lease.as_ref().map_or(0, |lease| lease.base);
                (lease.map(|lease| lease.token), base, Extent { len: base + len, is_sealed })
            }
            (None, Some(stored)) => (stored.owner, stored.extent.len, stored.extent),
            (None, None) => (None, 0, Extent::default()),
        };
        Ok(Self {
            paths,
            owner,
            file: None,
            base,
            extent,
            ends_in_newline: false,
            cut_by: None,
            has_failed: false,
            is_damaged,
        })
    }

    /// Removes the files if they are damaged, and returns the log without them. Only for output that
    /// is uploaded: its worker has everything that was not. Nobody else may open the log meanwhile.
    pub(super) fn without_damage(
        self,
        stored: Option<&StoredLog>,
        quota: &StorageQuota,
    ) -> io::Result<Self> {
        if !self.is_damaged {
            return Ok(self);
        }
        // They may have been seen while somebody else created or removed them.
        let again = Self::open(self.paths, stored)?;
        if !again.is_damaged {
            return Ok(again);
        }
        warn!(path = %again.paths.log.display(), "damaged output removed; its worker sends it again");
        quota.release(again.paths.remove()?);
        Self::open(again.paths, stored)
    }

    pub(super) fn reopen_if_failed(&mut self) -> io::Result<()> {
        if self.has_failed {
            *self = Self::open(self.paths.clone(), None)?;
        }
        Ok(())
    }

    /// Describes the local file, or returns `None` if there is none.
    pub(super) fn local(&self, is_doubtful: bool) -> io::Result<Option<Local>> {
        let Some(token) = self.owner else { return Ok(None) };
        let (extent, base) = (self.extent, self.base);
        Ok(self.paths.exist()?.then_some(Local { token, extent, base, is_doubtful }))
    }

    /// Removes the log and returns its size. What has it open has to open it again.
    pub(super) fn remove(&mut self) -> io::Result<u64> {
        self.has_failed = true;
        self.file = None;
        self.paths.remove()
    }

    pub(super) fn note_failure(&mut self, has_failed: bool) {
        self.has_failed |= has_failed;
    }

    /// Returns the lease under which it was started.
    pub(super) fn owner(&self) -> Option<Token> {
        self.owner
    }

    /// Returns the extent of the stored output.
    pub(super) fn extent(&self) -> Extent {
        self.extent
    }

    /// Assigns the log to a lease, unless it already belongs to one, and creates its file.
    pub(super) fn begin(&mut self, token: Token) -> io::Result<()> {
        if self.extent.is_sealed || self.file.is_some() {
            return Ok(());
        }
        let is_known = self.owner.is_some();
        let token = *self.owner.get_or_insert(token);
        if !is_known || !self.paths.lease.try_exists()? {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.paths.dir)?;
            let mut options = OpenOptions::new();
            let options = options.create(true).truncate(true).write(true).mode(0o600);
            let lease = Lease { token, base: self.base, end: None };
            options.open(&self.paths.lease)?.write_all(lease.to_string().as_bytes())?;
        }
        self.file().map(|_| ())
    }

    fn file(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                let file = options.create(true).append(true).mode(0o600).open(&self.paths.log)?;
                // It may have been removed after it was uploaded.
                if self.base + file.metadata()?.len() != self.extent.len {
                    return Err(io::Error::other("the log has changed since it was opened"));
                }
                file
            }
        };
        Ok(self.file.insert(file))
    }

    /// Stores the new part of a piece, and returns the extent received.
    pub(super) fn take(
        &mut self,
        piece: &Piece,
        cap: u64,
        quota: &StorageQuota,
    ) -> io::Result<Extent> {
        let end = piece.offset + to_u64(piece.data.len());
        if self.extent.is_sealed {
            return Ok(Extent { len: end.max(self.extent.len), is_sealed: true });
        }
        if self.cut_by.is_none() {
            if piece.offset > self.extent.len {
                return Ok(self.extent);
            }
            self.keep(piece, cap, quota)?;
        }
        let received = end.max(self.extent.len);
        if piece.is_sealed {
            self.seal(end)?;
        }
        Ok(Extent { len: received, is_sealed: piece.is_sealed })
    }

    fn keep(&mut self, piece: &Piece, cap: u64, quota: &StorageQuota) -> io::Result<()> {
        let n_known = usize::try_from(self.extent.len - piece.offset).unwrap_or(usize::MAX);
        let fresh = piece.data.get(n_known..).unwrap_or_default();
        let left_here = (cap + LAST_LINE_BYTES).saturating_sub(self.extent.len);
        let left = usize::try_from(left_here.min(quota.left())).unwrap_or(usize::MAX);
        let kept = &fresh[..fresh.len().min(left)];
        self.append(kept)?;
        quota.take(to_u64(kept.len()));
        if kept.len() < fresh.len() {
            let total = quota.max();
            self.cut_by = Some(if to_u64(left) == left_here {
                format!("limits.log_bytes of the coordinator is {cap}")
            } else {
                format!("limits.total_log_bytes of the coordinator is {total}, and it is used up")
            });
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.file()?.write_all(bytes)?;
        self.extent.len += to_u64(bytes.len());
        self.ends_in_newline = bytes.last() == Some(&b'\n');
        Ok(())
    }

    /// Seals the log; `end` is the number of bytes that the attempt has printed.
    fn seal(&mut self, end: u64) -> io::Result<()> {
        if let Some(why) = self.cut_by.take() {
            let (kept, start) = (self.extent.len, if self.ends_in_newline { "" } else { "\n" });
            let dropped = end.saturating_sub(kept);
            let what = format!("log cut after {kept} bytes, {dropped} bytes dropped");
            let line = format!("{start}[kahn] {what}: {why}\n");
            self.append(line.as_bytes())?;
        }
        self.file = None;
        let token = self.owner.ok_or_else(|| io::Error::other("the log was never begun"))?;
        let lease = Lease { token, base: self.base, end: Some(self.extent.len) };
        let new = self.paths.unfinished_seal();
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(true).write(true).mode(0o600);
        options.open(&new)?.write_all(lease.to_string().as_bytes())?;
        std::fs::rename(new, &self.paths.sealed)?;
        optional(std::fs::remove_file(&self.paths.lease))?;
        self.extent.is_sealed = true;
        Ok(())
    }
}

/// The lease of a log.
struct Lease {
    token: Token,
    /// The offset of the first byte in the file.
    base: u64,
    /// The length of the output, once it is sealed.
    end: Option<u64>,
}

impl Lease {
    fn parse(text: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(text).ok()?.split_whitespace().map(str::parse);
        let mut next = || parts.next()?.ok();
        let token = Token { epoch: next()?, serial: next()?, nonce: next()? };
        // Earlier versions have written neither.
        Some(Self { token, base: next().unwrap_or(0), end: next() })
    }
}

impl std::fmt::Display for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { token: Token { epoch, serial, nonce }, base, end } = self;
        write!(f, "{epoch} {serial} {nonce} {base}")?;
        end.map_or(Ok(()), |end| write!(f, " {end}"))?;
        writeln!(f)
    }
}

fn optional<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
