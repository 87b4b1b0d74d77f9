//! What the process uses, read from `/proc` when metrics are read. Nothing is reported on systems
//! without it.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The unit of processor times in `/proc`, per second. It is part of the interface of Linux and
/// independent of the timer of the kernel.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reports the use of this process.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut write = |name, help, metric: &dyn Encodable| metric.write(name, help, &mut encoder);
        if let Some(stat) = Stat::read() {
            let help = "Processor time of user and system.";
            write("process_cpu_seconds", help, &ConstCounter::new(stat.cpu_seconds))?;
            let help = "Threads.";
            write("process_threads", help, &ConstGauge::new(stat.n_threads))?;
            let help = "Size of the virtual memory.";
            write("process_virtual_memory_bytes", help, &ConstGauge::new(stat.virtual_bytes))?;
            if let Some(booted_at) = booted_at() {
                let help = "Start of the process, since the Unix epoch.";
                let started_at = ConstGauge::new(booted_at + stat.started_after_seconds);
                write("process_start_time_seconds", help, &started_at)?;
            }
        }
        if let Some(bytes) = resident_bytes() {
            let help = "Size of the resident memory.";
            write("process_resident_memory_bytes", help, &ConstGauge::new(bytes))?;
        }
        if let Some(n) = n_open_files() {
            write("process_open_fds", "Open file descriptors.", &ConstGauge::new(n))?;
        }
        if let Some(n) = max_open_files() {
            let help = "Maximum number of open file descriptors.";
            write("process_max_fds", help, &ConstGauge::new(n))?;
        }
        Ok(())
    }
}

/// A metric of any type.
trait Encodable {
    fn write(&self, name: &str, help: &str, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result;
}

impl<M: EncodeMetric> Encodable for M {
    fn write(&self, name: &str, help: &str, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.encode(encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}

/// What is used of `/proc/self/stat`.
struct Stat {
    cpu_seconds: f64,
    n_threads: u64,
    started_after_seconds: f64,
    virtual_bytes: u64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name of the program, in parentheses, may contain anything.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split_whitespace().collect();
        // Fields are numbered from 1, and the first one after the name is number 3.
        let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let count = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
            n_threads: count(20)?,
            started_after_seconds: ticks(22)? / TICKS_PER_SECOND,
            virtual_bytes: count(23)?,
        })
    }
}

/// Returns when the system was booted, in seconds since the Unix epoch.
fn booted_at() -> Option<f64> {
    number_after("/proc/stat", "btime ")
}

fn resident_bytes() -> Option<u64> {
    number_after::<u64>("/proc/self/status", "VmRSS:").map(|kibibytes| kibibytes << 10)
}

fn n_open_files() -> Option<u64> {
    // One of them is the directory itself.
    let n = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u64::try_from(n).ok()
}

fn max_open_files() -> Option<u64> {
    number_after("/proc/self/limits", "Max open files")
}

/// Returns the first number of the line that begins with `key`.
fn number_after<T: std::str::FromStr>(file: &str, key: &str) -> Option<T> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_follow_the_last_parenthesis() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 90 0 0 0 250 50 0 0 20 0 4 0 123400 8192 200 9";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.cpu_seconds, stat.n_threads), (3.0, 4));
        assert_eq!((stat.started_after_seconds, stat.virtual_bytes), (1234.0, 8192));
    }
}
