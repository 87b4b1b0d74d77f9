//! Future events, ordered by time. Events at equal times keep the order in which they were planned.

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_model::Timestamp;

/// A queue of future events.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    entries: BTreeMap<(Timestamp, u64), T>,
    n_planned: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), n_planned: 0 }
    }
}

impl<T> Queue<T> {
    pub(crate) fn plan(&mut self, at: Timestamp, what: T) {
        self.n_planned += 1;
        self.entries.insert((at, self.n_planned), what);
    }

    pub(crate) fn pop(&mut self) -> Option<(Timestamp, T)> {
        self.entries.pop_first().map(|((at, _), what)| (at, what))
    }
}

/// Returns `n` microseconds.
pub(crate) const fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

/// Returns `n` milliseconds.
pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
