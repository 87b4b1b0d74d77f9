//! Measures the pressure on the worker, from which its core decides how much to accept.
//!
//! The figures are those of Linux' pressure stall information, of the worker's own cgroup where
//! that has some, else of the whole machine. Without any, memory and processors are still watched
//! by what is available and by how much wants to run; see `pressure/linux.rs`.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux::PressureSource;

#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(not(target_os = "linux"))]
use portable::PressureSource;

use std::path::PathBuf;
use std::time::Duration;

use kahn_model::Share;
use kahn_runtime::clock::Clock;
use kahn_runtime::human_duration;
use kahn_worker_core::PressureLimits;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::info;

use crate::config::InvalidConfig;
use crate::driver::Input;

/// Shorter periods measure noise.
const PERIOD_MIN: Duration = Duration::from_millis(100);

/// Whether a worker under pressure accepts less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PressureMode {
    /// It does, as far as the system tells of pressure.
    #[default]
    Auto,
    /// It always accepts all of its capacity.
    Off,
}

/// When a worker accepts less than its capacity: the section `[worker.pressure]`. A limit of 0 is
/// never passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PressureSettings {
    /// `auto` or `off`.
    pub mode: PressureMode,
    /// Time between two measurements, 100 ms at least. Memory is reacted to after one of them,
    /// processors and disks after five.
    #[serde(with = "human_duration")]
    pub period: Duration,
    /// For how much of the time something may wait for memory, in percent.
    pub memory: u32,
    /// How much of all memory is to stay available, in percent.
    pub available_memory: u32,
    /// How many threads may want to run, in percent of the processors: 300 is three for each.
    pub cpu: u32,
    /// For how much of the time all may wait for disks, in percent. Counts only while several
    /// attempts run.
    pub io: u32,
    /// The least share of its capacity that it accepts, in percent, 1 to 100.
    pub floor: u32,
    /// The directory of the cgroup (version 2) whose pressure counts; that of the worker when not
    /// given.
    pub cgroup: Option<PathBuf>,
}

impl Default for PressureSettings {
    fn default() -> Self {
        let limits = PressureLimits::default();
        Self {
            mode: PressureMode::Auto,
            period: Duration::from_secs(1),
            memory: limits.memory / 10,
            available_memory: limits.available_memory / 10,
            cpu: limits.cpu / 10,
            io: limits.io / 10,
            floor: limits.floor.permille() / 10,
            cgroup: None,
        }
    }
}

impl PressureSettings {
    /// The limits for the worker's core.
    ///
    /// # Errors
    ///
    /// When the floor is not a share, or the period is too short.
    pub(crate) fn limits(&self) -> Result<PressureLimits, InvalidConfig> {
        let invalid = |field, reason| InvalidConfig::Pressure { field, reason };
        if self.period < PERIOD_MIN {
            return Err(invalid("period", format!("less than {PERIOD_MIN:?} measures noise")));
        }
        let floor = Share::from_permille(self.floor.saturating_mul(10))
            .ok_or_else(|| invalid("floor", format!("{} is not from 1 to 100", self.floor)))?;
        Ok(PressureLimits {
            memory: self.memory.saturating_mul(10),
            available_memory: self.available_memory.saturating_mul(10),
            cpu: self.cpu.saturating_mul(10),
            io: self.io.saturating_mul(10),
            floor,
        })
    }
}

/// Measures until the driver is gone; `None` when there is nothing to be measured.
pub(crate) fn watch(
    settings: &PressureSettings,
    inbox: mpsc::Sender<Input>,
) -> Option<JoinHandle<()>> {
    if settings.mode == PressureMode::Off {
        return None;
    }
    let Some(mut source) = PressureSource::open(settings.cgroup.as_deref()) else {
        info!("this system tells nothing of pressure; the whole capacity is always accepted");
        return None;
    };
    info!(from = %source, "the pressure on this worker is measured");
    let period = settings.period;
    Some(tokio::spawn(async move {
        let clock = Clock::start();
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut measured_at = None;
        loop {
            ticks.tick().await;
            let now = clock.unix_micros();
            let sample = source.measure(measured_at.map(|before| now.saturating_sub(before)));
            measured_at = Some(now);
            if inbox.send(Input::Measured(sample)).await.is_err() {
                return;
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_settings_are_the_usual_limits() {
        let limits = PressureSettings::default().limits().unwrap();
        assert_eq!(limits, PressureLimits::default());
    }

    #[test]
    fn a_floor_of_nothing_and_a_period_of_noise_are_refused() {
        let refused = |settings: PressureSettings| settings.limits().unwrap_err().to_string();
        let floor = PressureSettings { floor: 0, ..PressureSettings::default() };
        assert_eq!(refused(floor), "worker.pressure.floor: 0 is not from 1 to 100");
        let period =
            PressureSettings { period: Duration::from_millis(9), ..PressureSettings::default() };
        assert_eq!(refused(period), "worker.pressure.period: less than 100ms measures noise");
    }
}
