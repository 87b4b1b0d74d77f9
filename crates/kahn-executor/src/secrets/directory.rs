//! Files with secrets. They are kept in memory if possible, and exist only during their attempt.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of retries if the directory is removed concurrently.
const N_TRIES: u32 = 100;
/// The directory of files in memory.
const MEMORY: &str = "/dev/shm";

/// The parent of the files of all attempts of one worker. It is accessible only to the worker's
/// user, and exists only while it is used.
#[derive(Debug)]
pub(super) struct Directory {
    /// The possible directories, in order of preference.
    candidates: Vec<PathBuf>,
    n_made: AtomicU64,
}

impl Directory {
    /// Removes files left by an earlier start. Directories are created on demand.
    pub(super) fn new(chosen: Option<&Path>, data_dir: &Path) -> Self {
        let candidates = match chosen {
            Some(dir) => vec![dir.to_owned()],
            None => in_memory(data_dir).into_iter().chain([data_dir.join("secrets")]).collect(),
        };
        for dir in &candidates {
            remove(dir);
        }
        Self { candidates, n_made: AtomicU64::new(0) }
    }

    /// Creates a directory for the files of one attempt. If `is_open`, all users may read it. Other
    /// users of the host cannot reach it, but those in a container that mounts it can.
    pub(super) fn make(&self, is_open: bool) -> io::Result<Files> {
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for root in &self.candidates {
            let mut made = self.make_in(root, is_open);
            for _ in 0..N_TRIES {
                match made {
                    // The last other attempt has ended and removed the directory.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        made = self.make_in(root, is_open);
                    }
                    _ => break,
                }
            }
            match made {
                Ok(files) => return Ok(files),
                Err(error) => {
                    let root = root.display();
                    tracing::warn!(%root, %error, "secret files cannot be created there");
                    failed = error;
                }
            }
        }
        Err(failed)
    }

    fn make_in(&self, root: &Path, is_open: bool) -> io::Result<Files> {
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let found = fs::symlink_metadata(root)?;
        if !is_ours(&found) || found.mode() & 0o077 != 0 {
            return Err(io::Error::other("it belongs to others, or is open to them"));
        }
        let number = self.n_made.fetch_add(1, Ordering::Relaxed);
        // Mounting it into a container requires an absolute path.
        let dir = root.canonicalize()?.join(number.to_string());
        DirBuilder::new().mode(0o700).create(&dir)?;
        let files = Files { dir, mode: if is_open { 0o444 } else { 0o400 } };
        if is_open {
            fs::set_permissions(&files.dir, Permissions::from_mode(0o755))?;
        }
        Ok(files)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        for dir in &self.candidates {
            remove(dir);
        }
    }
}

/// The files of one attempt. Dropping it removes them, which blocks briefly.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    mode: u32,
}

impl Files {
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a read-only file and returns its path.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.dir.join(name);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(self.mode).open(&path)?;
        file.write_all(text.as_bytes())?;
        // Sets the permissions independently of the umask.
        file.set_permissions(Permissions::from_mode(self.mode))?;
        Ok(path)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "secret files cannot be removed");
        }
        // Succeeds only if the directory is empty. A worker that is killed later then leaves
        // nothing behind.
        drop(self.dir.parent().map(fs::remove_dir));
    }
}

/// Returns a directory in memory that is unique to this data directory on this host.
fn in_memory(data_dir: &Path) -> Option<PathBuf> {
    let memory = Path::new(MEMORY);
    let found = fs::metadata(data_dir).ok().filter(|_| memory.is_dir())?;
    Some(memory.join(format!("kahn-{:x}-{:x}", found.dev(), found.ino())))
}

fn is_ours(found: &fs::Metadata) -> bool {
    found.is_dir() && found.uid() == rustix::process::geteuid().as_raw()
}

/// Removes a directory if it exists and is owned by this user.
fn remove(dir: &Path) {
    if fs::symlink_metadata(dir).is_ok_and(|found| is_ours(&found))
        && let Err(error) = fs::remove_dir_all(dir)
    {
        tracing::warn!(dir = %dir.display(), %error, "secret files cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_closed_and_go_with_their_attempt() {
        let data = tempfile::tempdir().unwrap();
        let directory = Directory::new(None, data.path());
        let files = directory.make(false).unwrap();
        let path = files.write("TOKEN", "value").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "value");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o400);
        for dir in [path.parent().unwrap(), path.parent().unwrap().parent().unwrap()] {
            assert_eq!(fs::metadata(dir).unwrap().mode() & 0o777, 0o700);
        }
        let other = directory.make(false).unwrap();
        drop(files);
        let root = path.parent().unwrap().parent().unwrap();
        assert!(!path.parent().unwrap().exists() && root.exists());
        drop(other);
        assert!(!root.exists());
        assert!(directory.make(false).is_ok());
    }

    #[test]
    fn attempts_that_come_and_go_do_not_get_in_each_others_way() {
        let data = tempfile::tempdir().unwrap();
        let directory = Directory::new(None, data.path());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let files = directory.make(false).unwrap();
                        files.write("TOKEN", "value").unwrap();
                    }
                });
            }
        });
    }

    #[test]
    fn what_a_killed_worker_left_is_removed_at_the_next_start() {
        let data = tempfile::tempdir().unwrap();
        let path = {
            let directory = Directory::new(None, data.path());
            directory.make(true).unwrap().write("TOKEN", "value").unwrap()
        };
        // As if nothing had been removed.
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "value").unwrap();
        let _next = Directory::new(None, data.path());
        assert!(!path.exists());
    }

    #[test]
    fn a_container_may_read_what_only_its_mount_leads_to() {
        let data = tempfile::tempdir().unwrap();
        let directory = Directory::new(Some(&data.path().join("own")), data.path());
        let files = directory.make(true).unwrap();
        let path = files.write("TOKEN", "value").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(files.dir())), (0o444, 0o755));
        assert_eq!(mode(files.dir().parent().unwrap()), 0o700);
    }

    #[test]
    fn a_directory_that_others_can_see_is_not_used() {
        let data = tempfile::tempdir().unwrap();
        let open = data.path().join("open");
        DirBuilder::new().mode(0o755).create(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        let directory = Directory { candidates: vec![open.clone()], n_made: AtomicU64::new(0) };
        assert!(directory.make(false).is_err());
        let target = data.path().join("target");
        DirBuilder::new().mode(0o700).create(&target).unwrap();
        fs::remove_dir(&open).unwrap();
        std::os::unix::fs::symlink(&target, &open).unwrap();
        assert!(directory.make(false).is_err());
    }
}
