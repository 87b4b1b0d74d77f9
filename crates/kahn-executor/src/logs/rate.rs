//! Limits the output rate of an attempt. A faster attempt has to wait, like at a pipe with a slow
//! reader. Nothing is discarded.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The allowed burst, as time at the full rate.
const BURST: Duration = Duration::from_secs(1);

/// The rate limiter of one attempt.
#[derive(Debug)]
pub(super) struct RateLimiter {
    /// In bytes per second.
    rate: u64,
    /// When all output so far would have been written at the full rate.
    paid_at: Mutex<Option<Instant>>,
}

impl RateLimiter {
    pub(super) fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), paid_at: Mutex::default() }
    }

    /// Waits until `n_bytes` more are within the rate.
    pub(super) async fn acquire(&self, n_bytes: u64) {
        let wait = self.wait_after(Instant::now(), n_bytes);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn wait_after(&self, now: Instant, n_bytes: u64) -> Duration {
        let nanos = u128::from(n_bytes) * 1_000_000_000 / u128::from(self.rate);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        let paid = paid_at.unwrap_or(now).max(now) + cost;
        *paid_at = Some(paid);
        (paid - now).saturating_sub(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_what_comes_after_it_waits() {
        let rate_limiter = RateLimiter::new(1000);
        let began_at = Instant::now();
        rate_limiter.acquire(1000).await;
        assert_eq!(began_at.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            rate_limiter.acquire(500).await;
        }
        assert_eq!(began_at.elapsed(), Duration::from_secs(5));
        tokio::time::advance(Duration::from_secs(60)).await;
        let rested_at = Instant::now();
        rate_limiter.acquire(1000).await;
        assert_eq!(rested_at.elapsed(), Duration::ZERO);
        rate_limiter.acquire(1000).await;
        assert_eq!(rested_at.elapsed(), Duration::from_secs(1));
    }
}
