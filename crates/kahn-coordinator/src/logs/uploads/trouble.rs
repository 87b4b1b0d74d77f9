//! Whether the blob store fails: says once that it does, and once that it works again.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

/// How long readers get the same error again, instead of a timeout each.
const SAME_FOR: Duration = Duration::from_secs(5);
/// How long nothing must have failed until the store is said to work again. A store of which some
/// requests fail is not reported with each of them.
const CALM_AFTER: Duration = Duration::from_secs(30);

/// The latest failure of the blob store.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The time of the latest failure, if it was reported and its end was not.
    reported: Option<Instant>,
    /// The latest failure since the store has worked.
    latest: Option<(Instant, String)>,
}

impl Trouble {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a failure; returns whether it was reported.
    pub(super) fn begin(&self, error: &io::Error) -> bool {
        let mut state = self.lock();
        let now = Instant::now();
        let is_first = state.reported.replace(now).is_none();
        if is_first {
            warn!(%error, "output is not written to the blob store for now; workers keep it");
        }
        state.latest = Some((now, error.to_string()));
        is_first
    }

    /// Takes note of a success; returns whether the end of the trouble was reported.
    pub(super) fn end(&self) -> bool {
        let mut state = self.lock();
        state.latest = None;
        let is_over = state.reported.is_some_and(|at| at.elapsed() >= CALM_AFTER);
        if is_over {
            state.reported = None;
            info!("output is written to the blob store again");
        }
        is_over
    }

    /// Returns the latest failure if it is very recent.
    pub(super) fn recent(&self) -> Option<io::Error> {
        let state = self.lock();
        let (at, error) = state.latest.as_ref()?;
        (at.elapsed() < SAME_FOR).then(|| io::Error::other(error.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_now_and_then_is_reported_once() {
        let trouble = Trouble::default();
        let error = io::Error::other("no answer");
        assert!(trouble.begin(&error));
        for _ in 0..10 {
            assert!(trouble.recent().is_some());
            assert!(!trouble.end());
            assert!(trouble.recent().is_none());
            tokio::time::advance(Duration::from_secs(10)).await;
            assert!(!trouble.begin(&error));
        }
        tokio::time::advance(CALM_AFTER).await;
        assert!(trouble.end() && !trouble.end());
        assert!(trouble.begin(&error));
    }
}
