//! Scratch directories, the default working directories of tasks.
//!
//! Creating and removing a directory can cost more than starting a process. A directory that a task
//! left empty is therefore reused, and any other is removed with its content. Paths consist of
//! numbers and never of user-provided names.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tokio::time::Instant;

use crate::OpenError;

/// The variable that names the scratch directory of an attempt. It also identifies the processes of
/// the attempt, see [`crate::trees`].
pub(crate) const SCRATCH_VARIABLE: &str = "KAHN_SCRATCH";
const MODE: u32 = 0o700;
const N_LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// The maximum resolution of file timestamps: a kernel tick, or two seconds on file systems that
/// store whole seconds.
const CLOCK_TICKS: Duration = Duration::from_millis(2_100);

/// The number of a scratch directory, unique among the attempts that are running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(u32);

/// The scratch directories of one worker.
#[derive(Debug)]
pub(crate) struct Scratch {
    root: PathBuf,
    pool: Mutex<Pool>,
    /// Held for the lifetime of the value, so that no other worker uses the same root.
    _lock: File,
}

#[derive(Debug, Default)]
struct Pool {
    n_slots: u32,
    /// Free slots, each with its directory if that exists and is empty.
    free: Vec<(Slot, Option<Seen>)>,
    /// Existing directories of slots in use, and whether their change time reveals later changes.
    given: BTreeMap<Slot, (Seen, bool)>,
}

/// A directory that was found empty. It is still empty while its change time is the same. Checking
/// that takes one system call, and reading the directory takes several.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// The change time, in seconds and nanoseconds since 1970. Tasks cannot set it.
    changed_at: (i64, i64),
    /// When this change time was first seen.
    since: Instant,
}

impl Seen {
    /// Returns whether any later change is visible, since two changes within the timestamp
    /// resolution have the same change time.
    fn shows_change(&self) -> bool {
        CLOCK_TICKS <= self.since.elapsed()
    }
}

impl Scratch {
    /// Locks `root` for this worker and empties it.
    pub(crate) fn open(root: &Path) -> Result<Self, OpenError> {
        let wrap = |source| OpenError::Scratch { path: root.to_owned(), source };
        DirBuilder::new().recursive(true).mode(MODE).create(root).map_err(wrap)?;
        let root = root.canonicalize().map_err(wrap)?;
        let lock = File::create(root.join("lock")).map_err(wrap)?;
        if !try_lock(&lock).map_err(wrap)? {
            return Err(OpenError::InUse { path: root });
        }
        for entry in fs::read_dir(&root).map_err(wrap)? {
            let path = entry.map_err(wrap)?.path();
            if path.file_name() != Some("lock".as_ref()) {
                remove(&path).map_err(wrap)?;
            }
        }
        Ok(Self { root, pool: Mutex::default(), _lock: lock })
    }

    /// Returns the absolute path, without symbolic links, of the parent of all scratch directories.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Takes a free slot with an empty directory that only the worker's user can access. Blocks.
    pub(crate) fn take(&self) -> io::Result<Slot> {
        let (slot, seen) = self.next_free();
        if seen.is_none()
            && let Err(error) = DirBuilder::new().mode(MODE).create(self.dir(slot))
        {
            self.lock().free.push((slot, None));
            return Err(error);
        }
        Ok(slot)
    }

    fn next_free(&self) -> (Slot, Option<Seen>) {
        let mut pool = self.lock();
        let (slot, seen) = pool.free.pop().unwrap_or_else(|| {
            pool.n_slots += 1;
            (Slot(pool.n_slots), None)
        });
        if let Some(seen) = seen {
            pool.given.insert(slot, (seen, seen.shows_change()));
        }
        (slot, seen)
    }

    /// Returns the directory of a slot.
    pub(crate) fn dir(&self, slot: Slot) -> PathBuf {
        self.root.join(slot.0.to_string())
    }

    /// Returns the path of the slot's outputs file, which does not exist at first.
    pub(crate) fn output_file(&self, slot: Slot) -> PathBuf {
        self.root.join(format!("{}.output", slot.0))
    }

    /// Returns whether anything exists at the path of the outputs file.
    pub(crate) fn has_outputs(&self, slot: Slot) -> bool {
        exists(&self.output_file(slot))
    }

    /// Returns whether the task left nothing behind, so that the slot can be reused unchanged.
    pub(crate) fn is_pristine(&self, slot: Slot) -> bool {
        let seen = self.look(slot);
        if let Some(seen) = seen {
            self.lock().given.insert(slot, (seen, seen.shows_change()));
        }
        seen.is_some()
    }

    /// Takes back a slot if the task left nothing behind. Returns whether it was taken back.
    pub(crate) fn try_release(&self, slot: Slot) -> bool {
        let seen = self.look(slot);
        let mut pool = self.lock();
        pool.given.remove(&slot);
        if seen.is_some() {
            pool.free.push((slot, seen));
        }
        seen.is_some()
    }

    /// Returns the directory of a slot if it is empty and there is no outputs file.
    fn look(&self, slot: Slot) -> Option<Seen> {
        let dir = self.dir(slot);
        let given = self.lock().given.get(&slot).copied();
        let found = fs::symlink_metadata(&dir).ok().filter(|_| !self.has_outputs(slot))?;
        let changed_at = (found.ctime(), found.ctime_nsec());
        let given = given.filter(|(seen, _)| seen.changed_at == changed_at);
        if let Some((seen, true)) = given {
            return Some(seen);
        }
        let is_empty = found.is_dir()
            && found.mode() & 0o7777 == MODE
            && fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_none());
        let new = || Seen { changed_at, since: Instant::now() };
        is_empty.then(|| given.map_or_else(new, |(seen, _)| seen))
    }

    /// Replaces the directory of a slot by an empty one, and removes the outputs file. Blocks while
    /// files are removed.
    pub(crate) fn renew(&self, slot: Slot) -> io::Result<()> {
        remove(&self.output_file(slot))?;
        remove(&self.dir(slot))?;
        DirBuilder::new().mode(MODE).create(self.dir(slot))
    }

    /// Removes the files that the task left and takes the slot back. Blocks while files are
    /// removed.
    ///
    /// A slot whose directory cannot be removed is not used again.
    pub(crate) fn clear(&self, slot: Slot) {
        self.lock().given.remove(&slot);
        let removed = remove(&self.output_file(slot)).and_then(|()| remove(&self.dir(slot)));
        match removed {
            Ok(()) => self.lock().free.push((slot, None)),
            Err(error) => {
                let path = self.dir(slot);
                tracing::warn!(path = %path.display(), %error, "cannot remove scratch directory");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries to lock the file, with retries. A child between fork and exec shares its worker's lock, so
/// the lock of a dead worker may be held for a moment longer.
fn try_lock(lock: &File) -> io::Result<bool> {
    for _ in 0..N_LOCK_TRIES {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(LOCK_PAUSE),
            Err(error) => return Err(error.into()),
            Ok(()) => return Ok(true),
        }
    }
    Ok(false)
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Removes a file, symbolic link or directory tree, if it exists. Does not follow links. Makes
/// directories accessible first if the task removed their permissions.
fn remove(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.is_dir() {
        return fs::remove_file(path);
    }
    fs::remove_dir_all(path).or_else(|_| {
        open_up(path);
        fs::remove_dir_all(path)
    })
}

/// Makes a directory and its subdirectories writable for their owner, as far as possible.
fn open_up(root: &Path) {
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(MODE);
        // If this fails, so does the removal.
        let _ = fs::set_permissions(&dir, mode);
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        pending.extend(dirs.map(|entry| entry.path()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_serves_again_and_a_used_one_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(dir.path()).unwrap();
        let slot = scratch.take().unwrap();
        assert!(scratch.try_release(slot));
        assert_eq!(scratch.take().unwrap(), slot);

        fs::create_dir(scratch.dir(slot).join("sub")).unwrap();
        fs::write(scratch.dir(slot).join("sub/file"), "x").unwrap();
        assert!(!scratch.try_release(slot));
        fs::write(scratch.output_file(slot), "x").unwrap();
        scratch.clear(slot);
        assert!(!exists(&scratch.dir(slot)) && !exists(&scratch.output_file(slot)));
        let again = scratch.take().unwrap();
        assert_eq!(again, slot);
        assert_ne!(scratch.take().unwrap(), again);
        assert!(scratch.try_release(again));
    }

    #[test]
    fn what_is_left_shows_in_a_directory_that_was_empty_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(dir.path()).unwrap();
        let slot = scratch.take().unwrap();
        assert!(scratch.try_release(slot));
        assert_eq!(scratch.take().unwrap(), slot);
        let is_trusted = || scratch.lock().given.get(&slot).is_some_and(|(_, shows)| *shows);
        let begun = Instant::now();
        while !is_trusted() {
            assert!(begun.elapsed() < Duration::from_secs(20));
            assert!(scratch.is_pristine(slot));
        }
        fs::write(scratch.dir(slot).join("left"), "x").unwrap();
        assert!(!scratch.is_pristine(slot));
        // Removing the file again changes the change time but leaves an empty directory.
        fs::remove_file(scratch.dir(slot).join("left")).unwrap();
        assert!(scratch.try_release(slot));
        // A replaced directory is detected as well.
        assert_eq!(scratch.take().unwrap(), slot);
        fs::remove_dir(scratch.dir(slot)).unwrap();
        fs::create_dir(scratch.dir(slot)).unwrap();
        assert!(!scratch.try_release(slot), "its mode is another");
    }

    #[test]
    fn a_directory_that_was_opened_to_others_does_not_serve_again() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(dir.path()).unwrap();
        let slot = scratch.take().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(scratch.dir(slot), open).unwrap();
        assert!(!scratch.try_release(slot));
        scratch.clear(slot);
        assert!(!exists(&scratch.dir(slot)));
    }

    #[test]
    fn links_out_of_the_directory_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("precious"), "x").unwrap();
        let scratch = Scratch::open(dir.path()).unwrap();
        let slot = scratch.take().unwrap();
        std::os::unix::fs::symlink(outside.path(), scratch.dir(slot).join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path(), scratch.output_file(slot)).unwrap();
        scratch.clear(slot);
        assert!(exists(&outside.path().join("precious")));
    }

    #[test]
    fn a_root_in_use_is_refused_and_a_free_one_is_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(dir.path()).unwrap();
        let slot = scratch.take().unwrap();
        fs::write(scratch.dir(slot).join("left"), "x").unwrap();
        assert!(matches!(Scratch::open(dir.path()), Err(OpenError::InUse { .. })));
        drop(scratch);
        let scratch = Scratch::open(dir.path()).unwrap();
        assert_eq!(fs::read_dir(scratch.root()).unwrap().count(), 1);
    }
}
