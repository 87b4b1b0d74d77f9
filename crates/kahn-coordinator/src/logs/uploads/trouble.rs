//! Whether the blob store fails: says once that it does, and once that it works again.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

/// How long readers get the same error again, instead of a timeout each.
const SAME_FOR: Duration = Duration::from_secs(5);

/// The latest failure of the blob store since it has worked.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<(Instant, String)>>);

impl Trouble {
    pub(super) fn begin(&self, error: &io::Error) {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.is_none() {
            warn!(%error, "output is not written to the blob store for now; workers keep it");
        }
        *latest = Some((Instant::now(), error.to_string()));
    }

    pub(super) fn end(&self) {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.take().is_some() {
            info!("output is written to the blob store again");
        }
    }

    /// Returns the latest failure if it is very recent.
    pub(super) fn recent(&self) -> Option<io::Error> {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, error) = latest.as_ref()?;
        (at.elapsed() < SAME_FOR).then(|| io::Error::other(error.clone()))
    }
}
