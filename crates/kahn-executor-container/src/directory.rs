//! The directory of an attempt on the host, into which its container writes its outputs.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The name of the file with the outputs.
pub(super) const OUTPUT_FILE: &str = "output";
/// Held by the worker that uses a directory.
const LOCK_FILE: &str = "lock";
const N_LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The directories of one worker. While this lives, no other worker uses them.
#[derive(Debug)]
pub(super) struct Directories {
    root: PathBuf,
    n_made: AtomicU64,
    _lock: File,
}

impl Directories {
    /// Takes `root` for this worker alone, and empties it.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let root = root.canonicalize()?;
        let lock = File::create(root.join(LOCK_FILE))?;
        take(&lock)?;
        for entry in std::fs::read_dir(&root)? {
            let path = entry?.path();
            if path.file_name() != Some(LOCK_FILE.as_ref()) {
                remove(&path);
            }
        }
        Ok(Self { root, n_made: AtomicU64::new(0), _lock: lock })
    }

    /// The directory that holds them all: absolute, and free of links.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a directory for one attempt, into which any user may write: who that is inside the
    /// container may be nobody that the worker could give it to. Others on the host do not get to
    /// it, since the directory around it is closed to them.
    pub(super) fn make(&self) -> io::Result<PathBuf> {
        // What could not be removed at the start keeps its number.
        loop {
            let number = self.n_made.fetch_add(1, Ordering::Relaxed);
            let dir = self.root.join(number.to_string());
            match std::fs::create_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => {
                    created?;
                    std::fs::set_permissions(&dir, Permissions::from_mode(0o777))?;
                    let mut options = OpenOptions::new();
                    let file = options.write(true).create_new(true).mode(0o666);
                    let file = file.open(dir.join(OUTPUT_FILE))?;
                    file.set_permissions(Permissions::from_mode(0o666))?;
                    return Ok(dir);
                }
            }
        }
    }
}

/// Takes a lock that another may hold for a moment, to see whether it is free.
fn take(lock: &File) -> io::Result<()> {
    for _ in 0..N_LOCK_TRIES {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => return Ok(()),
        }
    }
    Err(io::Error::other("in use by another worker"))
}

/// Whether the worker that has its directories in `root` is known to be gone: nobody holds them.
pub(super) fn is_abandoned(root: &Path) -> bool {
    // Where there is no such file, the worker may be one that sees other files than we do.
    File::open(root.join(LOCK_FILE)).is_ok_and(|lock| lock.try_lock().is_ok())
}

/// Removes a directory with all that a container left in it. Blocks.
pub(super) fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "files of a container stay behind");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_in_use_is_refused_and_a_free_one_is_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directories::open(dir.path()).unwrap();
        let made = first.make().unwrap();
        assert!(!is_abandoned(first.root()));
        assert!(Directories::open(dir.path()).unwrap_err().to_string().contains("in use"));
        drop(first);
        assert!(is_abandoned(dir.path()) && made.exists());
        let _second = Directories::open(dir.path()).unwrap();
        assert!(!made.exists());
    }

    #[test]
    fn a_directory_that_is_nowhere_is_not_called_abandoned() {
        assert!(!is_abandoned(Path::new("/no/such/place")));
    }
}
