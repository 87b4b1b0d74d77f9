//! Local files that were left behind, or are not needed any more.

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use kahn_model::{AttemptId, RunId, TaskIx};
use tracing::{info, warn};

use super::quota::StorageQuota;
use super::uploads::Local;
use super::writing::{Paths, Writing};
use super::{Logs, bytes_below};

impl Logs {
    /// Counts the bytes in the files that an earlier process has left, and uploads what the blob
    /// store does not have. Call this before anything else.
    pub(crate) async fn recover(&self) {
        let (quota, dir) = (self.quota.clone(), self.dir.clone());
        let is_uploaded = self.uploads.is_some();
        let look = move || {
            quota.take(bytes_below(&dir));
            if is_uploaded { left_behind(&dir, &quota) } else { Vec::new() }
        };
        // Nothing is left behind if the runtime shuts down.
        let found = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        let Some(uploads) = &self.uploads else { return };
        if !found.is_empty() {
            info!(n = found.len(), "uploading output that an earlier process has received");
        }
        for (attempt, local) in found {
            uploads.announce(self, attempt, local);
        }
    }

    /// Removes the local file of an attempt, of which the blob store has enough.
    pub(super) async fn remove_local(&self, attempt: AttemptId) -> io::Result<()> {
        self.remove_local_if(attempt, |_| true).await.map(|_| ())
    }

    /// Removes the local file of an attempt if it is open and ends before `stored`; returns whether
    /// it was removed.
    pub(super) async fn drop_shorter(&self, attempt: AttemptId, stored: u64) -> io::Result<bool> {
        let is_behind = move |writing: &Writing| {
            let extent = writing.extent();
            !extent.is_sealed && extent.len < stored
        };
        self.remove_local_if(attempt, is_behind).await
    }

    /// Removes the local file of an attempt if it ends at `stored`; returns whether it was removed.
    pub(super) async fn retire(&self, attempt: AttemptId, stored: u64) -> io::Result<bool> {
        self.remove_local_if(attempt, move |writing| writing.extent().len == stored).await
    }

    async fn remove_local_if(
        &self,
        attempt: AttemptId,
        condition: impl FnOnce(&Writing) -> bool + Send + 'static,
    ) -> io::Result<bool> {
        let (open, quota, paths) =
            (Arc::clone(&self.open), self.quota.clone(), self.paths(attempt));
        let blocking = move || {
            // Locked to the end, so that nobody opens the log meanwhile.
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            let writing = match open.get(&attempt) {
                Some(writing) => Arc::clone(writing),
                None => Arc::new(std::sync::Mutex::new(Writing::open(paths, None)?)),
            };
            let mut writing = writing.lock().unwrap_or_else(PoisonError::into_inner);
            if !condition(&writing) {
                return Ok(false);
            }
            quota.release(writing.remove()?);
            open.remove(&attempt);
            Ok(true)
        };
        tokio::task::spawn_blocking(blocking).await.map_err(io::Error::other)?
    }
}

/// Returns the logs in a directory.
fn left_behind(dir: &Path, quota: &StorageQuota) -> Vec<(AttemptId, Local)> {
    let mut found = Vec::new();
    for run in entries(dir) {
        let Some(id) = run.file_name().and_then(|name| name.to_str()?.parse::<RunId>().ok()) else {
            continue;
        };
        for file in entries(&run) {
            let name = file.file_name().and_then(|name| name.to_str());
            let Some(attempt) = name.and_then(|name| parse_name(id, name)) else { continue };
            let opened = Writing::open(Paths::new(&run, attempt), None);
            let intact = opened.and_then(|writing| writing.without_damage(None, quota));
            match intact.and_then(|writing| writing.local(true)) {
                Ok(local) => found.extend(local.map(|local| (attempt, local))),
                Err(error) => warn!(path = %file.display(), %error, "output cannot be read"),
            }
        }
    }
    found
}

fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn parse_name(run: RunId, name: &str) -> Option<AttemptId> {
    let (task, number) = name.strip_suffix(".log")?.split_once('.')?;
    Some(AttemptId { run, task: TaskIx(task.parse().ok()?), number: number.parse().ok()? })
}
