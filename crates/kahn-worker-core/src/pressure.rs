//! Decides how much of its capacity a worker accepts under pressure.
//!
//! Additive increase, multiplicative decrease (AIMD), as in TCP congestion control (Chiu and Jain,
//! 1989): the share falls quickly and recovers slowly. Hysteresis prevents oscillation: between the
//! limit that lowers the share and the lower level that raises it, the share does not change.
//!
//! * Memory pressure takes effect immediately, because excess attempts would be killed.
//! * CPU and disk pressure must persist, because excess attempts are only slow. Threads waiting for
//!   a CPU are normal in any build, so only a multiple of the number of CPUs counts. A disk kept
//!   busy by a single attempt is well used, so disk pressure counts only while several run.

use std::time::Duration;

use kahn_model::{Admission, Pressure, PressureKind, Share, Timestamp};

/// Consecutive samples with CPU or disk pressure before the share is lowered.
const LASTING: u32 = 5;
/// Consecutive calm samples before the share is raised by a step.
const CALM: u32 = 5;
/// Increase of the share per step, in thousandths.
const STEP: u32 = 100;

/// The measurements of one period, in thousandths; `None` if unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Share of time in which any thread was stalled on memory.
    pub memory: Option<u32>,
    /// Available share of all memory.
    pub available_memory: Option<u32>,
    /// Runnable threads per CPU.
    pub cpu: Option<u32>,
    /// Share of time in which all threads were stalled on disk I/O.
    pub io: Option<u32>,
}

/// The limits of acceptable pressure, in the units of [`Sample`]. A limit of 0 disables the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PressureLimits {
    /// Maximum share of time in which any thread is stalled on memory.
    pub memory: u32,
    /// Minimum available share of all memory.
    pub available_memory: u32,
    /// Maximum number of runnable threads per CPU.
    pub cpu: u32,
    /// Maximum share of time in which all threads are stalled on disk I/O.
    pub io: u32,
    /// The minimum share that the worker accepts.
    pub floor: Share,
}

impl Default for PressureLimits {
    fn default() -> Self {
        Self {
            memory: 100,
            available_memory: 50,
            cpu: 3000,
            io: 800,
            floor: Share::from_permille(100).unwrap_or_default(),
        }
    }
}

/// Adjusts the share with each sample.
#[derive(Clone, Debug, Default)]
pub(crate) struct Throttle {
    limits: PressureLimits,
    share: Share,
    pressure: Option<Pressure>,
    /// Since when the share is less than the whole capacity.
    since: Option<Timestamp>,
    /// Consecutive samples with CPU pressure, with disk pressure, and without any.
    n_cpu: u32,
    n_io: u32,
    n_calm: u32,
}

impl Throttle {
    pub(crate) fn new(limits: PressureLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(crate) fn share(&self) -> Share {
        self.share
    }

    /// Returns the share and the reason for it, as announced to the coordinator at `now`.
    pub(crate) fn admission(&self, now: Timestamp) -> Admission {
        let age = self.since.map_or(Duration::ZERO, |since| now.since(since));
        Admission { share: self.share, pressure: self.pressure, age }
    }

    /// Handles a sample while `n_running` attempts run. Returns whether the share has changed.
    pub(crate) fn take(&mut self, now: Timestamp, sample: Sample, n_running: usize) -> bool {
        let before = self.share;
        match self.lasting_pressure(&sample, n_running) {
            Some(pressure) => self.lower(now, pressure),
            None if self.is_calm(&sample) => {
                self.n_calm += 1;
                if self.n_calm >= CALM {
                    self.n_calm = 0;
                    self.raise();
                }
            }
            None => self.n_calm = 0,
        }
        self.share != before
    }

    /// Returns the most severe pressure that lowers the share now.
    fn lasting_pressure(&mut self, sample: &Sample, n_running: usize) -> Option<Pressure> {
        let [memory, available, cpu, io] = PressureKind::ALL.map(|kind| self.excess(sample, kind));
        let io = io.filter(|_| n_running > 1);
        self.n_cpu = cpu.map_or(0, |_| self.n_cpu + 1);
        self.n_io = io.map_or(0, |_| self.n_io + 1);
        let found = available
            .or(memory)
            .or(cpu.filter(|_| self.n_cpu >= LASTING))
            .or(io.filter(|_| self.n_io >= LASTING));
        if found.is_some() {
            // Lowering the share takes time to have an effect.
            (self.n_cpu, self.n_io) = (0, 0);
        }
        found
    }

    /// Returns the pressure of a kind if it is beyond its limit.
    fn excess(&self, sample: &Sample, kind: PressureKind) -> Option<Pressure> {
        let (measured, limit) = self.of_kind(sample, kind)?;
        let is_beyond = if kind.is_floor() { measured < limit } else { measured > limit };
        is_beyond.then_some(Pressure { kind, measured, limit })
    }

    /// Returns whether all measurements are far enough within their limits to accept more: at most
    /// three quarters of the limit. If the limit is a floor: above it by at least a quarter of the
    /// limit or of the range above the limit, whichever is less.
    fn is_calm(&self, sample: &Sample) -> bool {
        PressureKind::ALL.iter().all(|kind| {
            self.of_kind(sample, *kind).is_none_or(|(measured, limit)| {
                if kind.is_floor() {
                    measured >= limit + limit.min(1000_u32.saturating_sub(limit)) / 4
                } else {
                    measured <= limit - limit / 4
                }
            })
        })
    }

    fn of_kind(&self, sample: &Sample, kind: PressureKind) -> Option<(u32, u32)> {
        let (measured, limit) = match kind {
            PressureKind::Memory => (sample.memory, self.limits.memory),
            PressureKind::AvailableMemory => {
                (sample.available_memory, self.limits.available_memory)
            }
            PressureKind::Cpu => (sample.cpu, self.limits.cpu),
            PressureKind::Io => (sample.io, self.limits.io),
        };
        measured.filter(|_| limit > 0).map(|measured| (measured, limit))
    }

    fn lower(&mut self, now: Timestamp, pressure: Pressure) {
        self.n_calm = 0;
        let kept = match pressure.kind {
            PressureKind::Memory | PressureKind::AvailableMemory => 500,
            PressureKind::Cpu | PressureKind::Io => 700,
        };
        let lowered = (self.share.permille() * kept / 1000).max(self.limits.floor.permille());
        let Some(share) = Share::from_permille(lowered) else { return };
        self.share = share;
        if !share.is_all() {
            self.pressure = Some(pressure);
            self.since.get_or_insert(now);
        }
    }

    fn raise(&mut self) {
        let raised = (self.share.permille() + STEP).min(Share::ALL.permille());
        self.share = Share::from_permille(raised).unwrap_or_default();
        if self.share.is_all() {
            self.pressure = None;
            self.since = None;
        }
    }
}

#[cfg(test)]
mod tests;
