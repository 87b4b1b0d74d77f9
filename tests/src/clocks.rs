//! Wall clocks of single processes that can be stepped.
//!
//! A small library, compiled on the spot, replaces the functions that read the wall clock. The
//! monotonic clock stays as it is, like when an operator sets the time of a host.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

const SOURCE: &str = include_str!("clock.c");
/// Read by the library.
const VARIABLE: &str = "KAHN_E2E_CLOCK";

/// The wall clocks of processes, each with a name.
#[derive(Debug)]
pub(crate) struct Clocks {
    dir: PathBuf,
}

impl Clocks {
    /// Compiles the library to a directory, and checks that it works.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no C compiler, or programs do not load the library.
    pub(crate) fn create(dir: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("clock.c"), SOURCE)?;
        let clocks = Self { dir };
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-o"]).arg(clocks.library());
        let compiled = compiler.arg(clocks.dir.join("clock.c")).output();
        let compiled = compiled.context("cannot start the C compiler `cc`")?;
        ensure!(compiled.status.success(), "cc: {}", String::from_utf8_lossy(&compiled.stderr));
        clocks.check()?;
        Ok(clocks)
    }

    /// Returns the environment of the process whose clock has this name.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written.
    pub(crate) fn environment(&self, name: &str) -> anyhow::Result<[(&'static str, PathBuf); 2]> {
        let file = self.dir.join(name);
        if !file.exists() {
            std::fs::write(&file, [0; 8])?;
        }
        Ok([("LD_PRELOAD", self.library()), (VARIABLE, file)])
    }

    /// Sets how many milliseconds a clock is ahead of that of this host; it is behind if negative.
    ///
    /// # Errors
    ///
    /// Returns an error if no process has such a clock.
    pub(crate) fn set(&self, name: &str, ahead_ms: i64) -> anyhow::Result<()> {
        let file = File::options().write(true).open(self.dir.join(name))?;
        // One write of eight bytes at the start of a page: no process sees half of it.
        file.write_all_at(&ahead_ms.saturating_mul(1_000_000).to_ne_bytes(), 0)?;
        Ok(())
    }

    fn library(&self) -> PathBuf {
        self.dir.join("clock.so")
    }

    fn check(&self) -> anyhow::Result<()> {
        let name = "check";
        let environment = self.environment(name)?;
        let before = seconds(&environment)?;
        self.set(name, -3_600_000)?;
        let after = seconds(&environment)?;
        ensure!(after < before, "`date` does not load {}", self.library().display());
        Ok(())
    }
}

/// Returns the time that `date` sees, in seconds since 1970.
fn seconds(environment: &[(&str, PathBuf)]) -> anyhow::Result<u64> {
    let values = environment.iter().map(|(name, value): &(&str, PathBuf)| (name, Path::new(value)));
    let output = Command::new("date").arg("+%s").envs(values).output()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().context("the output of `date +%s`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_one_process_is_stepped_and_the_others_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let clocks = match Clocks::create(dir.path().join("clocks")) {
            Ok(clocks) => clocks,
            Err(error) => return println!("NOT RUN: {error:#}"),
        };
        let (one, other) = ("one", "other");
        let of = |name| seconds(&clocks.environment(name).unwrap()).unwrap();
        let (hour, start) = (3_600, of(other));
        for name in [one, other] {
            clocks.environment(name).unwrap();
        }
        clocks.set(one, 3_600_000).unwrap();
        assert!(start + hour <= of(one));
        assert!(of(other) < start + hour / 2);
        clocks.set(one, -3_600_000).unwrap();
        assert!(of(one) < start);
        clocks.set(one, 0).unwrap();
        assert!(start <= of(one));
    }
}
