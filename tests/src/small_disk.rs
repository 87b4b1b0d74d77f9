//! A small file system for a directory, which can be filled.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// The file that takes the free space.
const FILLER: &str = "filler";
/// Space is taken in pieces of these sizes, the last one a page.
const PIECES: [usize; 2] = [1 << 20, 4 << 10];

/// A file system in memory. It is unmounted on drop.
#[derive(Debug)]
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Creates a directory, and mounts a file system of this size on it.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be mounted, which usually requires root.
    pub(crate) fn mount(path: &Path, mebibytes: u32) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=700"), "tmpfs"]);
        let mounted = mount.arg(path).output().context("cannot start `mount`")?;
        let complaint = String::from_utf8_lossy(&mounted.stderr);
        ensure!(mounted.status.success(), "cannot mount a tmpfs: {}", complaint.trim());
        Ok(Self(path.to_owned()))
    }

    /// Writes a file until nothing else can be written.
    ///
    /// # Errors
    ///
    /// Returns an error if writing fails for another reason.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::options().create(true).append(true).open(self.0.join(FILLER))?;
        for piece in PIECES.map(|n_bytes| vec![0; n_bytes]) {
            loop {
                match file.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Removes that file.
    ///
    /// # Errors
    ///
    /// Returns an error if it does not exist.
    pub(crate) fn free(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.0.join(FILLER))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still use it.
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_be_written_to_a_full_disk_until_it_is_freed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = match SmallDisk::mount(&dir.path().join("disk"), 2) {
            Ok(disk) => disk,
            Err(error) => return println!("NOT RUN: {error:#}"),
        };
        // A new file each time: what a file gives up when it is truncated can be used again.
        let write = |name| std::fs::write(disk.0.join(name), "text");
        write("before").unwrap();
        disk.fill().unwrap();
        assert_eq!(write("meanwhile").unwrap_err().kind(), ErrorKind::StorageFull);
        disk.free().unwrap();
        write("after").unwrap();
    }
}
