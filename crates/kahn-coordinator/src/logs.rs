//! What attempts printed, kept in files of the coordinator's data directory.
//!
//! One file for each attempt that printed something, named by ids and never by what people wrote.
//! Workers send pieces with offsets; what is there already is passed over, and after a gap the
//! worker is told where to go on, so that there is neither gap nor repeat. A log belongs to the
//! lease under which it was begun. A log that exists and is not sealed has an end that is still to
//! come.

mod room;
mod writing;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kahn_model::{AttemptId, RunId, Token};
use tokio::fs;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::watch;

use room::Room;
use writing::{Paths, Writing};

/// Bytes read at one time.
const PIECE_BYTES: u64 = 256 << 10;
/// Logs that are kept open at one time; the others are opened again when there is more.
const OPEN_MAX: usize = 512;

/// How far the output of an attempt has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Bytes that are kept.
    pub len: u64,
    /// Whether nothing will follow.
    pub is_sealed: bool,
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps {
    /// Bytes of one attempt.
    pub attempt_bytes: u64,
    /// Bytes of all attempts of all runs.
    pub total_bytes: u64,
}

/// A piece of output.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Where it begins.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
    /// Whether nothing follows.
    pub is_sealed: bool,
}

/// The output of all attempts.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    dir: PathBuf,
    attempt_bytes: u64,
    room: Room,
    /// Those that are being written.
    open: Arc<Mutex<BTreeMap<AttemptId, Arc<Mutex<Writing>>>>>,
    /// Those that are being watched.
    watched: Arc<Mutex<BTreeMap<AttemptId, watch::Sender<Extent>>>>,
}

impl Logs {
    pub(crate) fn new(dir: PathBuf, caps: Caps) -> Self {
        let room = Room::new(caps.total_bytes);
        let attempt_bytes = caps.attempt_bytes;
        Self { dir, attempt_bytes, room, open: Arc::default(), watched: Arc::default() }
    }

    /// Counts what an earlier start has kept.
    pub(crate) async fn count(&self) {
        let (room, dir) = (self.room.clone(), self.dir.clone());
        // Nothing is counted if the runtime ends meanwhile.
        drop(tokio::task::spawn_blocking(move || room.take(room::bytes_below(&dir))).await);
    }

    /// Takes a piece, and says how far the output was received: beyond what is kept where the caps
    /// leave no room, and before the piece where something is missing.
    pub(crate) async fn write(
        &self,
        attempt: AttemptId,
        token: Token,
        piece: Piece,
    ) -> io::Result<Extent> {
        let cap = self.attempt_bytes;
        let room = self.room.clone();
        let work = move |writing: &mut Writing| {
            writing.begin(token)?;
            let received = writing.take(&piece, cap, &room)?;
            Ok((writing.extent(), received))
        };
        let (kept, received) = self.with(attempt, work).await?;
        self.announce(attempt, kept);
        Ok(received)
    }

    /// Notes that there is output of which nothing may have come yet.
    pub(crate) async fn expect(&self, attempt: AttemptId, token: Token) -> io::Result<()> {
        self.with(attempt, move |writing| writing.begin(token)).await
    }

    /// The lease under which the log was begun; `None` when it was not.
    pub(crate) async fn owner(&self, attempt: AttemptId) -> io::Result<Option<Token>> {
        self.with(attempt, |writing| Ok(writing.owner())).await
    }

    async fn with<T: Send + 'static>(
        &self,
        attempt: AttemptId,
        work: impl FnOnce(&mut Writing) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let known = self.lock_open().get(&attempt).map(Arc::clone);
        let paths = self.paths(attempt);
        let open = Arc::clone(&self.open);
        let blocking = move || {
            let writing = match known {
                Some(known) => known,
                None => remember(&open, attempt, Writing::open(paths)?),
            };
            let mut writing = writing.lock().unwrap_or_else(PoisonError::into_inner);
            writing.look_again_if_failed()?;
            let done = work(&mut writing);
            writing.note_failure(done.is_err());
            if writing.extent().is_sealed {
                open.lock().unwrap_or_else(PoisonError::into_inner).remove(&attempt);
            }
            done
        };
        tokio::task::spawn_blocking(blocking).await.map_err(io::Error::other)?
    }

    fn lock_open(&self) -> std::sync::MutexGuard<'_, BTreeMap<AttemptId, Arc<Mutex<Writing>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paths(&self, attempt: AttemptId) -> Paths {
        Paths::new(&self.dir.join(attempt.run.to_string()), attempt)
    }

    fn removed_mark(&self, run: RunId) -> PathBuf {
        self.dir.join(format!("{run}.removed"))
    }

    /// How far the output of an attempt has come; `None` when none is known of.
    pub(crate) async fn extent(&self, attempt: AttemptId) -> io::Result<Option<Extent>> {
        let paths = self.paths(attempt);
        // The seal first: what was written before it is then counted.
        let is_sealed = fs::try_exists(&paths.sealed).await?;
        match fs::metadata(&paths.log).await {
            Ok(meta) => Ok(Some(Extent { len: meta.len(), is_sealed })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Up to a quarter of a mebibyte from `offset` on; empty at the end.
    pub(crate) async fn read(&self, attempt: AttemptId, offset: u64) -> io::Result<Bytes> {
        let mut file = match fs::File::open(self.paths(attempt).log).await {
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
        let mut all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, sender| sender.receiver_count() > 0);
        all.entry(attempt).or_insert_with(|| watch::Sender::new(Extent::default())).subscribe()
    }

    fn announce(&self, attempt: AttemptId, extent: Extent) {
        let all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = all.get(&attempt) {
            sender.send_replace(extent);
        }
    }

    /// Whether the output of a run was removed to make room.
    pub(crate) async fn was_removed(&self, run: RunId) -> bool {
        fs::try_exists(self.removed_mark(run)).await.unwrap_or(false)
    }

    /// Whether there is so little room left that old output should go.
    pub(crate) fn is_tight(&self) -> bool {
        self.room.is_tight()
    }

    /// Removes the output of a run that is remembered otherwise; says whether there was some.
    pub(crate) async fn make_room(&self, run: RunId) -> io::Result<bool> {
        if !fs::try_exists(self.dir.join(run.to_string())).await? {
            return Ok(false);
        }
        fs::write(self.removed_mark(run), b"").await?;
        self.remove(run).await?;
        Ok(true)
    }

    /// Removes all output of a run that is forgotten.
    pub(crate) async fn forget(&self, run: RunId) -> io::Result<()> {
        self.remove(run).await?;
        match fs::remove_file(self.removed_mark(run)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    async fn remove(&self, run: RunId) -> io::Result<()> {
        self.lock_open().retain(|attempt, _| attempt.run != run);
        let (dir, room) = (self.dir.join(run.to_string()), self.room.clone());
        let blocking = move || {
            let n_bytes = room::bytes_below(&dir);
            match std::fs::remove_dir_all(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => {
                    room.give_back(n_bytes);
                    Ok(())
                }
            }
        };
        tokio::task::spawn_blocking(blocking).await.map_err(io::Error::other)?
    }
}

/// Two streams of one worker may come to the same attempt at one time: the first one's is used.
fn remember(
    open: &Mutex<BTreeMap<AttemptId, Arc<Mutex<Writing>>>>,
    attempt: AttemptId,
    writing: Writing,
) -> Arc<Mutex<Writing>> {
    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
    if open.len() >= OPEN_MAX {
        open.retain(|_, writing| Arc::strong_count(writing) > 1);
    }
    Arc::clone(open.entry(attempt).or_insert_with(|| Arc::new(Mutex::new(writing))))
}

#[cfg(test)]
mod tests;
