//! How long and how often to retry while the coordinator is unreachable.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::random;

const INITIAL: Duration = Duration::from_millis(50);
const MAX: Duration = Duration::from_secs(2);

/// One outage, from the first failure until a call succeeds.
#[derive(Debug)]
pub(crate) struct OutageRetry {
    timeout: Duration,
    until: Option<Instant>,
    ceiling: Duration,
}

impl OutageRetry {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, until: None, ceiling: INITIAL }
    }

    /// Waits before the next try. Returns `error` instead if retrying cannot help or the outage has
    /// lasted too long.
    pub(crate) async fn pause(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_unreachable() {
            return Err(error);
        }
        let now = Instant::now();
        let until = *self.until.get_or_insert(now + self.timeout);
        let wait = random::jittered(self.ceiling);
        if until < now + wait {
            return Err(error);
        }
        self.ceiling = (self.ceiling * 2).min(MAX);
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Records a success, which ends the outage.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_retried_up_to_its_timeout() {
        let started_at = Instant::now();
        let mut retry = OutageRetry::new(Duration::from_secs(10));
        let mut n_tries = 0;
        while retry.pause(Error::unreachable("away")).await.is_ok() {
            n_tries += 1;
        }
        assert!(started_at.elapsed() <= Duration::from_secs(10));
        assert!((8..40).contains(&n_tries), "{n_tries}");
        retry.reset();
        assert!(retry.pause(Error::unreachable("away")).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_not_tried_again() {
        let mut retry = OutageRetry::new(Duration::from_secs(10));
        assert!(retry.pause(Error::refused(Reason::NotFound, "no run")).await.is_err());
        assert!(retry.pause(Error::bug("odd")).await.is_err());
    }
}
