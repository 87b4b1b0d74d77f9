//! Waiting for replicas.
//!
//! `WAIT` counts the replicas that have received everything that this connection has written. So a
//! script whose answer is relied on must have written something, even if it found its work done:
//! see `scripts/append.lua`. A replica with `appendfsync always` confirms only after it has flushed.

use std::time::Duration;

use ::redis::{Cmd, Value};

use crate::error::StoreError;

/// How many replicas must have received a write, and how long to wait for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replicas {
    pub(super) wanted: u32,
    within: Duration,
}

impl Replicas {
    /// Creates the rule. `reply_within` is the timeout for each reply. A request may have to wait
    /// behind the `WAIT` of two earlier ones, and all must end before the connection is given up.
    pub(super) fn new(wanted: u32, reply_within: Duration) -> Self {
        Self { wanted, within: reply_within / 4 }
    }

    /// Returns the command that waits.
    pub(super) fn wait(self) -> Cmd {
        let mut wait = ::redis::cmd("WAIT");
        // A timeout of 0 would mean to wait for ever.
        let within = u64::try_from(self.within.as_millis()).unwrap_or(u64::MAX).max(1);
        wait.arg(self.wanted).arg(within);
        wait
    }

    /// Checks the number of replicas that [`wait`](Self::wait) has returned.
    pub(super) fn check(self, found: u32) -> Result<(), StoreError> {
        if self.wanted <= found {
            return Ok(());
        }
        Err(StoreError::NotReplicated { found, wanted: self.wanted })
    }
}

/// Parses the answer to `WAIT`.
pub(super) fn wait_count(answer: Value) -> Result<u32, StoreError> {
    match answer {
        Value::Int(count) => u32::try_from(count).ok(),
        _ => None,
    }
    .ok_or_else(|| StoreError::Damaged("redis answered WAIT without a number".to_owned()))
}
