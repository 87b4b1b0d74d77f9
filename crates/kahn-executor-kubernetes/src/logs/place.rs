//! Keeps the place up to which output was copied, for another start of the worker.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use kahn_executor::logs::LogWriter;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::lines::Place;

/// How often the place is written. What was copied after it is copied again by another start, and
/// skipped by the log.
const WRITE_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Kept {
    place: Place,
    /// The length of the log at this place.
    log_bytes: u64,
}

/// The file with the place.
#[derive(Debug)]
pub(crate) struct PlaceFile {
    path: PathBuf,
    kept: Option<Kept>,
    written_at: Option<Instant>,
}

impl PlaceFile {
    /// Opens the file. With `is_resumed`, the log then skips what it has and what will be appended
    /// again.
    pub(super) fn open(path: PathBuf, is_resumed: bool, log: &LogWriter) -> Self {
        let kept = if is_resumed { read(&path) } else { None };
        let kept = kept.filter(|kept| kept.log_bytes <= log.len());
        if is_resumed {
            log.skip(log.len() - kept.map_or(0, |kept| kept.log_bytes));
        }
        Self { path, kept, written_at: None }
    }

    pub(super) fn place(&self) -> Option<Place> {
        self.kept.map(|kept| kept.place)
    }

    /// Keeps a place, at which the log has this length. Not every place is written.
    pub(super) fn keep(&mut self, place: Place, log_bytes: u64) {
        if self.written_at.is_some_and(|at| at.elapsed() < WRITE_EVERY)
            || self.kept.is_some_and(|kept| kept.place == place)
        {
            return;
        }
        self.written_at = Some(Instant::now());
        let kept = Kept { place, log_bytes };
        if let Err(error) = self.write(&kept) {
            // Another start would copy the output from its beginning, and skip more of it.
            tracing::debug!(path = %self.path.display(), %error, "a place is not kept");
            return;
        }
        self.kept = Some(kept);
    }

    fn write(&self, kept: &Kept) -> io::Result<()> {
        let mut new = self.path.clone();
        new.add_extension("new");
        std::fs::write(&new, serde_json::to_vec(kept)?)?;
        std::fs::rename(&new, &self.path)
    }

    /// Removes the file after the end of the output.
    pub(super) fn remove(self) {
        // It may never have been written.
        drop(std::fs::remove_file(&self.path));
    }
}

fn read(path: &PathBuf) -> Option<Kept> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
