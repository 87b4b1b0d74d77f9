//! Directories of attempts on the host, into which their containers write outputs.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The name of the outputs file.
pub(super) const OUTPUT_FILE: &str = "output";
/// The file that a worker locks while it uses a directory.
const LOCK_FILE: &str = "lock";
const N_LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The directories of one worker, which are locked against other workers while this value exists.
#[derive(Debug)]
pub(super) struct Directories {
    root: PathBuf,
    n_made: AtomicU64,
    _lock: File,
}

impl Directories {
    /// Locks `root` for this worker and empties it.
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

    /// Returns the absolute path, without symbolic links, of the parent of all directories.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Creates a directory for one attempt that is writable for all users, because the worker may
    /// be unable to give it to the user in the container. Other users of the host cannot reach it,
    /// since its parent is closed to them.
    pub(super) fn make(&self) -> io::Result<PathBuf> {
        // Skip the numbers of directories that could not be removed at the start.
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

/// Takes a lock, with retries, since another worker may hold it briefly to check whether it is
/// free.
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

/// Returns whether the worker that uses `root` is known to be gone, because its lock is free.
pub(super) fn is_abandoned(root: &Path) -> bool {
    // If the file does not exist, the worker may run in another file system namespace.
    File::open(root.join(LOCK_FILE)).is_ok_and(|lock| lock.try_lock().is_ok())
}

/// Removes a directory and everything that a container left in it. Blocks.
pub(super) fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "files of a container cannot be removed");
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
