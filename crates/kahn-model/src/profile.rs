//! How a task is to be run: needs and limits that many tasks of a DAG share.

use std::time::Duration;

use crate::cause::{CauseKind, CauseSet, Failure};
use crate::exception::ExceptionPattern;
use crate::labels::Selector;
use crate::name::Name;
use crate::resources::Resources;

/// A factor in thousandths: `1500` is one and a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Multiplier(pub u32);

impl Multiplier {
    /// Times one.
    pub const ONE: Self = Self(1000);

    /// `value` times the factor to the power of `times`, stopping at the largest number.
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

/// How the wait between attempts grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackoffKind {
    /// Always the initial wait.
    Fixed,
    /// The initial wait times the number of the attempt that failed.
    Linear,
    /// The initial wait, doubled after each attempt.
    #[default]
    Exponential,
}

/// How long to wait before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backoff {
    /// How the wait grows.
    pub kind: BackoffKind,
    /// The wait after the first attempt.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// Whether to draw each wait evenly between half of it and the whole, so that tasks that
    /// failed together do not come back together.
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
    /// The wait after attempt `number` (from 1). `seed` stands for chance and makes the jitter
    /// repeatable.
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

/// A number in `0..1` that depends on `seed` and `number` only (SplitMix64).
fn unit(seed: u64, number: u32) -> f64 {
    let mut z = seed.wrapping_add(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let top = u32::try_from((z ^ (z >> 31)) >> 32).expect("invariant: 32 bits");
    f64::from(top) / 4_294_967_296.0
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; at least 1.
    pub max_attempts: u32,
    /// The wait between them.
    pub backoff: Backoff,
    /// Only attempts that ended for one of these causes are followed by another.
    pub on: CauseSet,
    /// Memory asked for grows by this factor after each out-of-memory attempt.
    pub memory: Multiplier,
    /// The run timeout grows by this factor after each attempt that ran into it.
    pub timeout: Multiplier,
    /// Attempts lost with their workers before the task is given up. They do not count as
    /// attempts in the sense of `max_attempts`.
    pub crash_limit: u32,
    /// Memory asked for does not grow beyond this, in bytes. What a task asks for at first may be
    /// more.
    pub memory_max: Option<u64>,
}

impl RetryPolicy {
    /// Memory to ask for after `times` attempts ran out of it, when `first` was asked for at first.
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

/// The four clocks of a task; none runs when not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeouts {
    /// From ready to leased; the task fails.
    pub queue: Option<Duration>,
    /// From leased to started; the attempt fails.
    pub start: Option<Duration>,
    /// From started to finished; the attempt fails.
    pub run: Option<Duration>,
    /// Between SIGTERM and SIGKILL when an attempt is stopped.
    pub grace: Option<Duration>,
}

/// A named limit that tasks share, within a namespace and across runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConcurrencyKey {
    /// The name.
    pub key: Name,
    /// Most attempts that may be leased under it at one time. Where tasks disagree, each is held
    /// to its own number.
    pub limit: u32,
}

/// A breaker shared by the tasks of a namespace that use the same target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Circuit {
    /// The name of the target.
    pub key: Name,
    /// Consecutive failures that open it.
    pub failures: u32,
    /// How long it stays open before one attempt may try.
    pub cool_down: Duration,
}

/// What an attempt does while its worker cannot reach the coordinator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnDisconnect {
    /// Goes on. When the worker is away for too long, another attempt may run beside it.
    #[default]
    Keep,
    /// Is stopped by its worker before the coordinator may grant another.
    Stop,
}

/// How a task is to be run. Two tasks with equal profiles are placed alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Profile {
    /// What an attempt holds while it runs.
    pub resources: Resources,
    /// On which workers.
    pub selector: Selector,
    /// When to try again.
    pub retry: RetryPolicy,
    /// Exceptions that are retried, too, where `retry` does not hold for all of them.
    pub retry_exceptions: Vec<ExceptionPattern>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Goes before tasks of a lower priority in the same run.
    pub priority: i32,
    /// Named limits.
    pub concurrency: Vec<ConcurrencyKey>,
    /// A breaker.
    pub circuit: Option<Circuit>,
    /// What to do when the worker is cut off.
    pub on_disconnect: OnDisconnect,
}

impl Profile {
    /// Whether an attempt that failed so may be followed by another, if any are left.
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
