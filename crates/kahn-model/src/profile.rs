//! Profiles: requirements and limits shared by many tasks of a DAG.

use std::time::Duration;

use crate::cause::{CauseKind, CauseSet, Failure};
use crate::exception::ExceptionPattern;
use crate::labels::Selector;
use crate::name::Name;
use crate::resources::Resources;

/// A factor in thousandths: `1500` means 1.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Multiplier(pub u32);

impl Multiplier {
    /// The factor 1.
    pub const ONE: Self = Self(1000);

    /// Returns `value` times the factor to the power of `times`. Saturates.
    #[must_use]
    pub fn apply(self, value: u64, times: u32) -> u64 {
        if self == Self::ONE {
            return value;
        }
        let factor = u128::from(self.0);
        let mut out = u128::from(value);
        for _ in 0..times {
            out = out.saturating_mul(factor) / 1000;
            if out > u128::from(u64::MAX) || out == 0 {
                break;
            }
        }
        u64::try_from(out).unwrap_or(u64::MAX)
    }
}

impl Default for Multiplier {
    fn default() -> Self {
        Self::ONE
    }
}

/// How the delay between attempts grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackoffKind {
    /// Always the initial delay.
    Fixed,
    /// The initial delay times the number of the failed attempt.
    Linear,
    /// The initial delay, doubled after each attempt.
    #[default]
    Exponential,
}

/// The delay before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backoff {
    /// How the delay grows.
    pub kind: BackoffKind,
    /// The delay after the first attempt.
    pub initial: Duration,
    /// The maximum delay.
    pub max: Duration,
    /// Whether to draw each delay uniformly between half of it and the whole, so that tasks that
    /// failed together do not retry at the same time.
    pub jitter: bool,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            kind: BackoffKind::Exponential,
            initial: Duration::from_secs(1),
            max: Duration::from_secs(300),
            jitter: true,
        }
    }
}

impl Backoff {
    /// Returns the delay after attempt `number` (from 1). `seed` makes the jitter reproducible.
    #[must_use]
    pub fn delay(&self, number: u32, seed: u64) -> Duration {
        let grown = match self.kind {
            BackoffKind::Fixed => self.initial,
            BackoffKind::Linear => self.initial.saturating_mul(number),
            BackoffKind::Exponential => {
                let doublings = number.saturating_sub(1).min(40);
                let micros = self.initial.as_micros().saturating_mul(1u128 << doublings);
                Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
            }
        };
        let whole = grown.min(self.max);
        if self.jitter { whole / 2 + (whole / 2).mul_f64(unit(seed, number)) } else { whole }
    }
}

/// Returns a pseudo-random number in `0..1` that depends only on `seed` and `number` (SplitMix64).
fn unit(seed: u64, number: u32) -> f64 {
    let mut z = seed.wrapping_add(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let top = u32::try_from((z ^ (z >> 31)) >> 32).expect("invariant: 32 bits");
    f64::from(top) / 4_294_967_296.0
}

/// The retry policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetryPolicy {
    /// Maximum number of attempts, including the first; at least 1.
    pub max_attempts: u32,
    /// The delay between attempts.
    pub backoff: Backoff,
    /// Only attempts that ended for one of these causes are retried.
    pub on: CauseSet,
    /// Multiplies the requested memory after each out-of-memory attempt.
    pub memory: Multiplier,
    /// Multiplies the run timeout after each attempt that exceeded it.
    pub timeout: Multiplier,
    /// The number of attempts that may be lost with their workers before the task fails
    /// permanently. They do not count towards `max_attempts`.
    pub crash_limit: u32,
    /// Maximum to which the requested memory grows, in bytes. The initial request may be larger.
    pub memory_max: Option<u64>,
}

impl RetryPolicy {
    /// Returns the memory to request after `times` out-of-memory attempts, if `first` was requested
    /// initially.
    #[must_use]
    pub fn memory_after(&self, first: u64, times: u32) -> u64 {
        let grown = self.memory.apply(first, times);
        self.memory_max.map_or(grown, |max| grown.min(max.max(first)))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 1,
            backoff: Backoff::default(),
            on: CauseSet::retryable(),
            memory: Multiplier::ONE,
            timeout: Multiplier::ONE,
            crash_limit: 5,
            memory_max: None,
        }
    }
}

/// The timeouts of a task; `None` means no timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeouts {
    /// From ready to leased; on expiry the task fails.
    pub queue: Option<Duration>,
    /// From leased to started; on expiry the attempt fails.
    pub start: Option<Duration>,
    /// From started to finished; on expiry the attempt fails.
    pub run: Option<Duration>,
    /// Between SIGTERM and SIGKILL when an attempt is stopped.
    pub grace: Option<Duration>,
}

/// A named concurrency limit, shared by tasks within a namespace and across runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConcurrencyKey {
    /// The name.
    pub key: Name,
    /// Maximum number of concurrently leased attempts with this key. If tasks specify different
    /// limits, each task obeys its own.
    pub limit: u32,
}

/// A circuit breaker shared by all tasks of a namespace that use the same target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Circuit {
    /// The name of the target.
    pub key: Name,
    /// The number of consecutive failures that open it.
    pub failures: u32,
    /// How long it stays open before one attempt may try again.
    pub cool_down: Duration,
}

/// What an attempt does while its worker cannot reach the coordinator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnDisconnect {
    /// Continues. If the worker is disconnected for too long, another attempt may run concurrently.
    #[default]
    Keep,
    /// Is stopped by its worker before the coordinator may lease another attempt.
    Stop,
}

/// How to run a task. Tasks with equal profiles have equal placement.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Profile {
    /// Resources reserved for an attempt while it runs.
    pub resources: Resources,
    /// Where the task may run.
    pub selector: Selector,
    /// The retry policy.
    pub retry: RetryPolicy,
    /// Exceptions that are retried in addition, if `retry` does not cover all exceptions.
    pub retry_exceptions: Vec<ExceptionPattern>,
    /// The timeouts.
    pub timeouts: Timeouts,
    /// Tasks with a higher priority are scheduled first within the run.
    pub priority: i32,
    /// The concurrency limits.
    pub concurrency: Vec<ConcurrencyKey>,
    /// The circuit breaker.
    pub circuit: Option<Circuit>,
    /// What to do if the worker loses its connection to the coordinator.
    pub on_disconnect: OnDisconnect,
}

impl Profile {
    /// Returns whether an attempt with this failure may be retried, if attempts are left.
    #[must_use]
    pub fn retries(&self, failure: &Failure) -> bool {
        let kind = failure.cause.kind;
        self.retry.on.contains(kind)
            || kind == CauseKind::Exception
                && self.retry_exceptions.iter().any(|one| one.matches(&failure.exception))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_backoff_doubles_up_to_its_maximum() {
        let backoff = Backoff { jitter: false, max: Duration::from_secs(5), ..Backoff::default() };
        let seconds: Vec<u64> = (1..=5).map(|n| backoff.delay(n, 0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 5, 5]);
        assert_eq!(backoff.delay(u32::MAX, 0), Duration::from_secs(5));
    }

    #[test]
    fn jitter_stays_between_half_and_whole_and_is_repeatable() {
        let backoff = Backoff::default();
        for seed in 0..100 {
            let delay = backoff.delay(1, seed);
            assert!(delay >= Duration::from_millis(500) && delay <= Duration::from_secs(1));
            assert_eq!(delay, backoff.delay(1, seed));
        }
        assert_ne!(backoff.delay(1, 1), backoff.delay(1, 2));
    }

    #[test]
    fn memory_grows_up_to_its_cap_and_never_shrinks() {
        let retry = RetryPolicy {
            memory: Multiplier(2000),
            memory_max: Some(300),
            ..RetryPolicy::default()
        };
        let asked: Vec<u64> = (0..4).map(|times| retry.memory_after(100, times)).collect();
        assert_eq!(asked, [100, 200, 300, 300]);
        assert_eq!(retry.memory_after(400, 2), 400);
    }

    #[test]
    fn multiplier_grows_by_powers_and_never_overflows() {
        assert_eq!(Multiplier(1500).apply(1000, 2), 2250);
        assert_eq!(Multiplier(2000).apply(u64::MAX, 900), u64::MAX);
        assert_eq!(Multiplier::ONE.apply(7, u32::MAX), 7);
    }
}
