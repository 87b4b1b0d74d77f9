//! Reserves the blob store for a cluster. Until that has succeeded, nothing is uploaded, and no output
//! of unknown runs is removed: it could belong to another cluster.

use std::io;
use std::time::Duration;

use kahn_runtime::backoff::Backoff;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::Logs;

/// How long the start of a coordinator waits for the blob store.
const START_MAX: Duration = Duration::from_secs(2);
/// Upper bounds of the delays after a failure.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

impl Logs {
    /// Reserves the blob store for a cluster; returns whether it is free or reserved for it already.
    /// If the store does not answer soon, it is reserved in the background.
    pub(crate) async fn claim(&self, cluster: &str, stopping: &CancellationToken) -> bool {
        match tokio::time::timeout(START_MAX, self.try_claim(cluster)).await {
            Ok(Ok(is_own)) => return is_own,
            Ok(Err(error)) => warn!(%error, "the blob store cannot be used for now"),
            Err(_) => warn!("the blob store does not answer for now"),
        }
        let (logs, cluster, stopping) = (self.clone(), cluster.to_owned(), stopping.clone());
        tokio::spawn(async move {
            stopping.run_until_cancelled(logs.keep_claiming(&cluster)).await;
        });
        true
    }

    async fn try_claim(&self, cluster: &str) -> io::Result<bool> {
        let Some(uploads) = &self.uploads else { return Ok(true) };
        let is_own = uploads.archive.claim(cluster).await?;
        if is_own {
            uploads.allow();
        }
        Ok(is_own)
    }

    async fn keep_claiming(&self, cluster: &str) {
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        let mut is_foreign = false;
        loop {
            tokio::time::sleep(backoff.next_delay()).await;
            match self.try_claim(cluster).await {
                Ok(true) => return info!("the blob store is reserved for this cluster"),
                Ok(false) if !is_foreign => {
                    is_foreign = true;
                    error!(
                        "the blob store belongs to another cluster, so no output is written to it; \
                         set coordinator.blobs.url to a prefix that no other cluster uses, and \
                         start again"
                    );
                }
                Ok(false) => {}
                Err(error) => debug!(%error, "the blob store cannot be reserved for now"),
            }
        }
    }

    /// Fails unless the blob store, if there is one, is reserved for this cluster.
    pub(crate) fn check_claim(&self) -> io::Result<()> {
        match self.uploads.as_ref().is_none_or(super::uploads::Uploads::is_allowed) {
            true => Ok(()),
            false => Err(io::Error::other("the blob store is not reserved for this cluster yet")),
        }
    }
}
