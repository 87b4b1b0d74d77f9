//! How much of its capacity a worker accepts, by the pressure that it measures.
//!
//! The share falls by a factor and rises by steps (as TCP's window does: Chiu and Jain, 1989): it
//! is soon out of trouble and comes back with care. Between the pressure that lowers it and the
//! calm that raises it is a span in which it stays, so that it does not swing.
//!
//! * Memory is reacted to at once: what is started too much is killed.
//! * Processors and disks only when the pressure lasts: what is started too much is slow. That
//!   threads wait for a processor is normal in any build; only a multiple of the processors
//!   counts. And a disk that one attempt alone keeps busy is well used, so pressure of that kind
//!   counts only while several run.

use std::time::Duration;

use kahn_model::{Admission, Pressure, PressureKind, Share, Timestamp};

/// Consecutive samples that processors or disks must be under pressure for the share to fall.
const LASTING: u32 = 5;
/// Consecutive calm samples for the share to rise by a step.
const CALM: u32 = 5;
/// By how much it rises in a step, in thousandths.
const STEP: u32 = 100;

/// What was measured over one period, in thousandths; `None` where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// For how much of the time something waited for memory.
    pub memory: Option<u32>,
    /// How much of all memory is available.
    pub available_memory: Option<u32>,
    /// How many threads want to run, for each processor.
    pub cpu: Option<u32>,
    /// For how much of the time all waited for disks.
    pub io: Option<u32>,
}

/// The pressure that a worker bears, in the units of [`Sample`]; a limit of 0 is never passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PressureLimits {
    /// For how much of the time something may wait for memory.
    pub memory: u32,
    /// How much of all memory is to be available.
    pub available_memory: u32,
    /// How many threads may want to run, for each processor.
    pub cpu: u32,
    /// For how much of the time all may wait for disks.
    pub io: u32,
    /// Below this share it does not fall.
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

/// Decides on the share, sample by sample.
#[derive(Clone, Debug, Default)]
pub(crate) struct Throttle {
    limits: PressureLimits,
    share: Share,
    pressure: Option<Pressure>,
    /// Since when it is less than all.
    since: Option<Timestamp>,
    /// Consecutive samples under pressure of processors, of disks, and calm ones.
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

    /// What to say of it at `now`.
    pub(crate) fn admission(&self, now: Timestamp) -> Admission {
        let age = self.since.map_or(Duration::ZERO, |since| now.since(since));
        Admission { share: self.share, pressure: self.pressure, age }
    }

    /// Takes a sample, and says whether the share has changed. `n_running` attempts run.
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

    /// The pressure that lowers the share now, the gravest first.
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
            // What was lowered needs time to show.
            (self.n_cpu, self.n_io) = (0, 0);
        }
        found
    }

    /// The pressure of a kind, if it is beyond its limit.
    fn excess(&self, sample: &Sample, kind: PressureKind) -> Option<Pressure> {
        let (measured, limit) = self.of_kind(sample, kind)?;
        let is_beyond = if kind.is_floor() { measured < limit } else { measured > limit };
        is_beyond.then_some(Pressure { kind, measured, limit })
    }

    /// Whether all is so far within its limit that more can be accepted: at three quarters of it,
    /// or, where the limit is a floor, a quarter of it (or of what there is above it) above that.
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
