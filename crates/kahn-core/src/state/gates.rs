//! Limits that hold back tasks even if there is room: concurrency keys, breakers, and the
//! `max_parallel` of a run.
//!
//! The use of a key is the number of leases that hold it. It is updated together with the leases
//! and audited against them, so it cannot leak.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kahn_model::{Circuit, Name, Timestamp};

use super::NamespaceIx;
use super::ready::LaneIx;
use super::run::RunIx;

/// A concurrency key or breaker within a namespace.
pub(crate) type GateKey = (NamespaceIx, Name);

/// The limit that holds a lane back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gate {
    /// The run is paused or has reached its maximum number of leases.
    Run(RunIx),
    /// The key has reached its maximum number of leases.
    Key(GateKey),
    /// The breaker is open, or waits for the result of its trial attempt.
    Breaker(GateKey),
}

/// A circuit breaker: counts consecutive failures, opens, and admits one trial attempt after its
/// cool-down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// Failures since the last success.
    pub failures: u32,
    /// Time until which no attempt is admitted; set while the breaker is open.
    pub open_until: Option<Timestamp>,
    /// Number of running attempts.
    pub(crate) held: u32,
}

impl Breaker {
    /// Returns whether another attempt is admitted at `now`.
    #[must_use]
    pub fn admits(&self, now: Timestamp) -> bool {
        match self.open_until {
            None => true,
            Some(until) => now >= until && self.held == 0,
        }
    }
}

/// Use of all gates, and the lanes that wait at them.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    keys: BTreeMap<GateKey, u32>,
    breakers: BTreeMap<GateKey, Breaker>,
    parked: BTreeMap<Gate, BTreeSet<LaneIx>>,
}

impl Gates {
    pub(crate) fn key_use(&self, key: &GateKey) -> u32 {
        self.keys.get(key).copied().unwrap_or(0)
    }

    pub(crate) fn keys(&self) -> &BTreeMap<GateKey, u32> {
        &self.keys
    }

    pub(crate) fn replace_keys(&mut self, keys: BTreeMap<GateKey, u32>) {
        self.keys = keys;
    }

    pub(crate) fn take_key(&mut self, key: GateKey) {
        *self.keys.entry(key).or_default() += 1;
    }

    pub(crate) fn drop_key(&mut self, key: &GateKey) {
        if let Some(held) = self.keys.get_mut(key) {
            *held -= 1;
            if *held == 0 {
                self.keys.remove(key);
            }
        }
    }

    pub(crate) fn breaker(&self, key: &GateKey) -> Breaker {
        self.breakers.get(key).copied().unwrap_or_default()
    }

    pub(crate) fn breakers(&self) -> impl Iterator<Item = (&GateKey, &Breaker)> {
        self.breakers.iter()
    }

    pub(crate) fn set_breaker(&mut self, key: GateKey, breaker: Breaker) {
        if breaker == Breaker::default() {
            self.breakers.remove(&key);
        } else {
            self.breakers.insert(key, breaker);
        }
    }

    /// Records how an attempt under the breaker ended. If this opened the breaker, returns the time
    /// until which it is open.
    pub(crate) fn record(
        &mut self,
        key: &GateKey,
        rule: &Circuit,
        is_success: bool,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let mut breaker = self.breaker(key);
        let opened = if is_success {
            breaker = Breaker { held: breaker.held, ..Breaker::default() };
            None
        } else {
            breaker.failures = breaker.failures.saturating_add(1);
            let opens = breaker.failures >= rule.failures;
            opens.then(|| now + rule.cool_down.max(Duration::from_millis(1)))
        };
        if opened.is_some() {
            breaker.open_until = opened;
        }
        self.set_breaker(key.clone(), breaker);
        opened
    }

    pub(crate) fn park(&mut self, gate: Gate, lane: LaneIx) {
        self.parked.entry(gate).or_default().insert(lane);
    }

    /// Removes and returns all lanes that wait at `gate`.
    pub(crate) fn unpark(&mut self, gate: &Gate) -> BTreeSet<LaneIx> {
        self.parked.remove(gate).unwrap_or_default()
    }

    /// Removes a deleted lane that was parked at `gate`.
    pub(crate) fn forget_lane(&mut self, gate: &Gate, lane: LaneIx) {
        if let Some(lanes) = self.parked.get_mut(gate) {
            lanes.remove(&lane);
            if lanes.is_empty() {
                self.parked.remove(gate);
            }
        }
    }
}
