//! Removes what is stored of runs that do not exist.

use std::time::Duration;

use kahn_core::Core;
use kahn_model::RunId;
use tracing::{info, warn};

use super::Retention;
use crate::inbox::RequestError;

/// The age at which what is stored of a run that does not exist is removed. An upload may be under
/// way.
const SWEEP_AGE: Duration = Duration::from_secs(3600);

impl Retention {
    /// Removes output and histories of runs that do not exist.
    pub(super) async fn sweep(&self) -> Result<(), RequestError> {
        self.sweep_output().await?;
        self.sweep_histories().await
    }

    async fn sweep_output(&self) -> Result<(), RequestError> {
        let stored = match self.logs.stored_runs().await {
            Ok(stored) => stored,
            Err(error) => {
                warn!(%error, "output of runs that do not exist is not looked for");
                return Ok(());
            }
        };
        for run in self.unknown(stored).await? {
            match self.logs.remove_if_older(run, SWEEP_AGE).await {
                Ok(false) => {}
                Ok(true) => info!(%run, "output of a run that does not exist removed"),
                Err(error) => {
                    warn!(%run, %error, "output of a run that does not exist not removed")
                }
            }
        }
        Ok(())
    }

    async fn sweep_histories(&self) -> Result<(), RequestError> {
        // They may be those of another cluster.
        if self.logs.check_claim().is_err() {
            return Ok(());
        }
        let stored = match self.histories.runs().await {
            Ok(stored) => stored,
            Err(error) => {
                warn!(%error, "histories of runs that do not exist are not looked for");
                return Ok(());
            }
        };
        for run in self.unknown(stored).await? {
            match self.histories.remove_if_older(run, SWEEP_AGE).await {
                Ok(false) => {}
                Ok(true) => info!(%run, "history of a run that does not exist removed"),
                Err(error) => {
                    warn!(%run, %error, "history of a run that does not exist not removed")
                }
            }
        }
        Ok(())
    }

    async fn unknown(&self, mut runs: Vec<RunId>) -> Result<Vec<RunId>, RequestError> {
        let unknown = move |core: &Core| {
            runs.retain(|run| core.state().summary(*run).is_none());
            runs
        };
        self.handle.query(unknown).await
    }
}
