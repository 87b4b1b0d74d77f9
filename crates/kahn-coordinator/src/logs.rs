//! What attempts printed, kept in files of the coordinator's data directory.
//!
//! One file for each attempt, named by ids and never by what people wrote. Workers send pieces
//! with offsets; a piece that is there already is passed over, a gap is refused, so that a worker
//! that starts again where its last receipt was leaves neither gap nor repeat.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kahn_model::AttemptId;
use tokio::fs;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

/// Bytes read at one time.
const PIECE_BYTES: u64 = 256 << 10;

/// How far the output of an attempt has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Bytes that are kept.
    pub len: u64,
    /// Whether nothing will follow.
    pub is_sealed: bool,
}

/// The output of all attempts.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    dir: PathBuf,
    bytes_max: u64,
    /// Those that are being written or watched.
    open: Arc<Mutex<BTreeMap<AttemptId, watch::Sender<Extent>>>>,
}

impl Logs {
    pub(crate) fn new(dir: PathBuf, bytes_max: u64) -> Self {
        Self { dir, bytes_max, open: Arc::default() }
    }

    fn dir_of(&self, attempt: AttemptId) -> PathBuf {
        self.dir.join(attempt.run.to_string())
    }

    fn path(&self, attempt: AttemptId) -> PathBuf {
        self.dir_of(attempt).join(format!("{}.{}.log", attempt.task.0, attempt.number))
    }

    fn seal_path(&self, attempt: AttemptId) -> PathBuf {
        self.path(attempt).with_extension("sealed")
    }

    /// Takes a piece and says how far the output has come.
    pub(crate) async fn write(
        &self,
        attempt: AttemptId,
        offset: u64,
        data: Bytes,
        is_sealed: bool,
    ) -> io::Result<Extent> {
        let path = self.path(attempt);
        let known = self.extent(attempt).await?;
        if known.is_sealed {
            return Ok(known);
        }
        let fresh = fresh_part(known.len, offset, &data)?;
        let room = usize::try_from(self.bytes_max.saturating_sub(known.len)).unwrap_or(usize::MAX);
        let fresh = &fresh[..fresh.len().min(room)];
        let mut extent = known;
        if !fresh.is_empty() || known.len == 0 {
            append(&path, fresh).await?;
            extent.len += u64::try_from(fresh.len()).unwrap_or(0);
        }
        if is_sealed {
            fs::write(self.seal_path(attempt), b"").await?;
            extent.is_sealed = true;
        }
        self.announce(attempt, extent);
        // What is beyond the limit is received and dropped, so the worker goes on.
        let len = extent.len.max(offset + u64::try_from(data.len()).unwrap_or(0));
        Ok(Extent { len, is_sealed: extent.is_sealed })
    }

    /// How far the output of an attempt has come.
    pub(crate) async fn extent(&self, attempt: AttemptId) -> io::Result<Extent> {
        let len = match fs::metadata(self.path(attempt)).await {
            Ok(meta) => meta.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let is_sealed = fs::try_exists(self.seal_path(attempt)).await?;
        Ok(Extent { len, is_sealed })
    }

    /// Up to a quarter of a mebibyte from `offset` on; empty at the end.
    pub(crate) async fn read(&self, attempt: AttemptId, offset: u64) -> io::Result<Bytes> {
        let mut file = match fs::File::open(self.path(attempt)).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Bytes::new()),
            Err(error) => return Err(error),
        };
        file.seek(io::SeekFrom::Start(offset)).await?;
        let mut piece = Vec::new();
        file.take(PIECE_BYTES).read_to_end(&mut piece).await?;
        Ok(Bytes::from(piece))
    }

    /// Wakes whenever there is more.
    pub(crate) fn watch(&self, attempt: AttemptId) -> watch::Receiver<Extent> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, sender| sender.receiver_count() > 0);
        open.entry(attempt).or_insert_with(|| watch::Sender::new(Extent::default())).subscribe()
    }

    fn announce(&self, attempt: AttemptId, extent: Extent) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = open.get(&attempt) {
            sender.send_replace(extent);
        }
    }

    /// Removes all output of a run.
    pub(crate) async fn remove_run(&self, run: kahn_model::RunId) -> io::Result<()> {
        match fs::remove_dir_all(self.dir.join(run.to_string())).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The part of a piece that is not kept yet.
fn fresh_part(len: u64, offset: u64, data: &Bytes) -> io::Result<Bytes> {
    if offset > len {
        let message = format!("output is kept up to byte {len}, the piece starts at {offset}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let known = usize::try_from(len - offset).unwrap_or(usize::MAX).min(data.len());
    Ok(data.slice(known..))
}

async fn append(path: &Path, data: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    let mut file = match options.open(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(dir) = path.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).await?;
            }
            options.open(path).await?
        }
        other => other?,
    };
    file.write_all(data).await?;
    file.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use kahn_model::{RunId, TaskIx, Uuid};

    fn attempt() -> AttemptId {
        AttemptId { run: RunId::new(Uuid::from_u128(1)), task: TaskIx(2), number: 1 }
    }

    #[tokio::test]
    async fn pieces_that_overlap_leave_no_repeat_and_gaps_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::new(dir.path().to_owned(), 100);
        let write = |offset, text: &'static str, end| {
            logs.write(attempt(), offset, Bytes::from_static(text.as_bytes()), end)
        };
        assert_eq!(write(0, "hello ", false).await.unwrap().len, 6);
        assert_eq!(write(3, "lo world", false).await.unwrap().len, 11);
        assert!(write(20, "gap", false).await.is_err());
        let sealed = write(11, "!", true).await.unwrap();
        assert_eq!(sealed, Extent { len: 12, is_sealed: true });
        assert_eq!(write(12, "late", false).await.unwrap(), sealed);
        assert_eq!(logs.read(attempt(), 6).await.unwrap(), "world!");
    }

    #[tokio::test]
    async fn what_is_beyond_the_limit_is_dropped_and_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::new(dir.path().to_owned(), 4);
        let extent = logs.write(attempt(), 0, Bytes::from_static(b"123456"), false).await.unwrap();
        assert_eq!(extent.len, 6);
        assert_eq!(logs.read(attempt(), 0).await.unwrap(), "1234");
    }
}
