//! How long and how often to retry while the coordinator is unreachable.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::random;

const INITIAL: Duration = Duration::from_millis(50);
const MAX: Duration = Duration::from_secs(2);

/// One outage, from the first failure until a call succeeds.
#[derive(Debug)]
pub(crate) struct Patience {
    span: Duration,
    until: Option<Instant>,
    ceiling: Duration,
}

impl Patience {
    pub(crate) fn new(span: Duration) -> Self {
        Self { span, until: None, ceiling: INITIAL }
    }

    /// Waits before the next try. Returns `error` instead if retrying cannot help or the outage has
    /// lasted too long.
    pub(crate) async fn pause(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_unreachable() {
            return Err(error);
        }
        let now = Instant::now();
        let until = *self.until.get_or_insert(now + self.span);
        let wait = random::jittered(self.ceiling);
        if until < now + wait {
            return Err(error);
        }
        self.ceiling = (self.ceiling * 2).min(MAX);
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Records a success, which ends the outage.
    pub(crate) fn restore(&mut self) {
        *self = Self::new(self.span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_borne_for_its_span_and_no_longer() {
        let started_at = Instant::now();
        let mut patience = Patience::new(Duration::from_secs(10));
        let mut n_tries = 0;
        while patience.pause(Error::unreachable("away")).await.is_ok() {
            n_tries += 1;
        }
        assert!(started_at.elapsed() <= Duration::from_secs(10));
        assert!((8..40).contains(&n_tries), "{n_tries}");
        patience.restore();
        assert!(patience.pause(Error::unreachable("away")).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_not_tried_again() {
        let mut patience = Patience::new(Duration::from_secs(10));
        assert!(patience.pause(Error::refused(Reason::NotFound, "no run")).await.is_err());
        assert!(patience.pause(Error::bug("odd")).await.is_err());
    }
}
