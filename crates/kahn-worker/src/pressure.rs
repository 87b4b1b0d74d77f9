//! Measures the pressure on the worker. The core decides from it how much to accept.
//!
//! Uses the pressure stall information (PSI) of Linux: that of the worker's own cgroup if
//! available, otherwise that of the host. Without PSI, available memory and runnable threads are
//! still measured; see `pressure/linux.rs`.

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

/// Minimum period; shorter ones only measure noise.
const PERIOD_MIN: Duration = Duration::from_millis(100);

/// Whether a worker reduces its accepted share under pressure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PressureMode {
    /// Enabled, as far as the system provides measurements.
    #[default]
    Auto,
    /// Disabled: the worker always accepts its whole capacity.
    Off,
}

/// When a worker accepts less than its capacity: the section `[worker.pressure]`. A limit of 0
/// disables the check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PressureSettings {
    /// `auto` or `off`.
    pub mode: PressureMode,
    /// Time between two measurements, at least 100 ms. The worker reacts to memory pressure after
    /// one measurement, to CPU and disk pressure after five.
    #[serde(with = "human_duration")]
    pub period: Duration,
    /// Maximum share of time in which any thread is stalled on memory, in percent.
    pub memory: u32,
    /// Minimum available memory, in percent of all memory.
    pub available_memory: u32,
    /// Maximum number of runnable threads, in percent of the CPUs: 300 is three per CPU.
    pub cpu: u32,
    /// Maximum share of time in which all threads are stalled on disk I/O, in percent. Only checked
    /// while several attempts run.
    pub io: u32,
    /// The minimum share of its capacity that the worker accepts, in percent, from 1 to 100.
    pub floor: u32,
    /// The directory of the cgroup (version 2) to measure. Default: the worker's cgroup.
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
    /// Returns the limits for the worker's core.
    ///
    /// # Errors
    ///
    /// Fails if the floor is not from 1 to 100 or the period is too short.
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

/// Spawns a task that measures until the driver ends. Returns `None` if measuring is turned off or
/// not possible.
pub(crate) fn watch(
    settings: &PressureSettings,
    inbox: mpsc::Sender<Input>,
) -> Option<JoinHandle<()>> {
    if settings.mode == PressureMode::Off {
        return None;
    }
    let Some(mut source) = PressureSource::open(settings.cgroup.as_deref()) else {
        info!("pressure cannot be measured on this system; always accepting the whole capacity");
        return None;
    };
    info!(from = %source, "measuring the pressure on this worker");
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
