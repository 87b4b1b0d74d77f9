//! Holds on partitions that are being read.
//!
//! A checkpoint removes log entries and blobs. While a partition is held, its next checkpoint is
//! late, within bounds, and blobs stay. A reader still has to expect that something is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kahn_model::Partition;

/// The holds on all partitions. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holds(Arc<Mutex<BTreeMap<Partition, usize>>>);

/// A hold, which ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    holds: Holds,
    partition: Partition,
}

impl Holds {
    /// Holds a partition.
    pub(crate) fn hold(&self, partition: Partition) -> Hold {
        *self.lock().entry(partition).or_default() += 1;
        Hold { holds: self.clone(), partition }
    }

    /// Returns whether anybody holds a partition.
    pub(crate) fn is_held(&self, partition: Partition) -> bool {
        self.lock().contains_key(&partition)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Partition, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = self.holds.lock();
        if let Some(n) = holds.get_mut(&self.partition) {
            *n -= 1;
            if *n == 0 {
                holds.remove(&self.partition);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_held_until_the_last_hold_has_ended() {
        let holds = Holds::default();
        let (first, second) = (holds.hold(Partition(1)), holds.hold(Partition(1)));
        assert!(holds.is_held(Partition(1)) && !holds.is_held(Partition(0)));
        drop(first);
        assert!(holds.is_held(Partition(1)));
        drop(second);
        assert!(!holds.is_held(Partition(1)));
    }
}
