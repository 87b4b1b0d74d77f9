//! Removes the output of runs, in the data directory and in the blob store.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use kahn_model::RunId;
use tokio::fs;

use super::{Logs, NO_ROOM, bytes_below};

impl Logs {
    fn removed_mark(&self, run: RunId) -> PathBuf {
        self.dir.join(format!("{run}.removed"))
    }

    /// Returns why the output of a run was removed, or `None` if it was not.
    pub(crate) async fn why_removed(&self, run: RunId) -> io::Result<Option<String>> {
        match fs::read_to_string(self.removed_mark(run)).await {
            // Earlier versions have removed it for one reason only.
            Ok(reason) if reason.is_empty() => return Ok(Some(NO_ROOM.to_owned())),
            Ok(reason) => return Ok(Some(reason)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match &self.uploads {
            Some(uploads) => uploads.archive.why_removed(run).await,
            None => Ok(None),
        }
    }

    /// Returns whether little space is left, so that old output should be removed. With a blob
    /// store, the space is freed by uploading.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.uploads.is_none() && self.quota.is_nearly_full()
    }

    /// Returns the size of the output of a run in bytes, or `None` while it is being uploaded.
    pub(crate) async fn size(&self, run: RunId) -> io::Result<Option<u64>> {
        let local = self.local_bytes(run).await?;
        Ok(match &self.uploads {
            Some(_) if local > 0 => None,
            Some(uploads) => Some(uploads.archive.size(run).await?),
            None => Some(local),
        })
    }

    async fn local_bytes(&self, run: RunId) -> io::Result<u64> {
        let dir = self.dir.join(run.to_string());
        let counted = tokio::task::spawn_blocking(move || bytes_below(&dir));
        counted.await.map_err(io::Error::other)
    }

    /// Removes the output of a run that is otherwise kept; returns whether there was any.
    pub(crate) async fn remove_output(&self, run: RunId, reason: &str) -> io::Result<bool> {
        if let Some(uploads) = &self.uploads {
            self.check_claim()?;
            // What is not uploaded yet counts, too.
            if self.local_bytes(run).await? == 0 && uploads.archive.size(run).await? == 0 {
                return Ok(false);
            }
            uploads.forget(run);
            self.remove_files(run).await?;
            uploads.archive.remove_because(run, reason).await?;
            return Ok(true);
        }
        if !fs::try_exists(self.dir.join(run.to_string())).await? {
            return Ok(false);
        }
        fs::write(self.removed_mark(run), reason).await?;
        self.remove_files(run).await?;
        Ok(true)
    }

    /// Removes all output of a removed run.
    pub(crate) async fn forget(&self, run: RunId) -> io::Result<()> {
        self.forget_files(run).await?;
        self.check_claim()?;
        match &self.uploads {
            Some(uploads) => uploads.archive.remove(run).await,
            None => Ok(()),
        }
    }

    /// Removes the output of a removed run that is not in the blob store. The rest is removed when
    /// output of runs that do not exist is looked for.
    pub(crate) async fn forget_files(&self, run: RunId) -> io::Result<()> {
        self.lock_expected().retain(|attempt| attempt.run != run);
        if let Some(uploads) = &self.uploads {
            uploads.forget(run);
        }
        self.remove_files(run).await?;
        match fs::remove_file(self.removed_mark(run)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns the runs that have output in the blob store, those that do not exist included. Fails
    /// if they may be those of another cluster.
    pub(crate) async fn stored_runs(&self) -> io::Result<Vec<RunId>> {
        self.check_claim()?;
        match &self.uploads {
            Some(uploads) => uploads.archive.runs().await,
            None => Ok(Vec::new()),
        }
    }

    /// Removes the output of a run from the blob store if all of it is older than `age`; returns
    /// whether it was removed.
    pub(crate) async fn remove_if_older(&self, run: RunId, age: Duration) -> io::Result<bool> {
        let Some(uploads) = &self.uploads else { return Ok(false) };
        if uploads.archive.age(run).await?.is_none_or(|youngest| youngest < age) {
            return Ok(false);
        }
        self.forget(run).await?;
        Ok(true)
    }

    async fn remove_files(&self, run: RunId) -> io::Result<()> {
        self.lock_open().retain(|attempt, _| attempt.run != run);
        let (dir, quota) = (self.dir.join(run.to_string()), self.quota.clone());
        let blocking = move || {
            let n_bytes = bytes_below(&dir);
            match std::fs::remove_dir_all(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => {
                    quota.release(n_bytes);
                    Ok(())
                }
            }
        };
        tokio::task::spawn_blocking(blocking).await.map_err(io::Error::other)?
    }
}
