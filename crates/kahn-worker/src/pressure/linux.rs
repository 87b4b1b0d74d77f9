//! Pressure on Linux: stalls from `/proc/pressure` or the cgroup, available memory from
//! `/proc/meminfo` and the cgroup, runnable threads from `/proc/stat`.
//!
//! The time in which some thread waits for a CPU says little: on two CPUs it is 100% with four
//! threads as well as with sixteen. The measure is therefore the number of runnable threads. For a
//! cgroup with a CPU quota, it is derived from the time in which all of its threads wait: n threads
//! with a quota of one CPU all wait for 1 - 1/n of the time.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use kahn_worker_core::Sample;

/// The whole, in thousandths.
const ALL: u64 = 1000;
/// Upper bound on the reported runnable threads per CPU, in thousandths.
const DEMAND_MAX: u64 = 100_000;

/// The available sources of measurements.
#[derive(Debug)]
pub(crate) struct PressureSource {
    memory: Option<Stalls>,
    io: Option<Stalls>,
    cpu: Option<Stalls>,
    group_cpu: Option<Stalls>,
    group: Option<PathBuf>,
}

impl PressureSource {
    /// Opens the sources that this system provides, or returns `None` if there are none.
    pub(crate) fn open(cgroup: Option<&Path>) -> Option<Self> {
        Self::open_under(Path::new("/proc"), cgroup.map(Path::to_owned).or_else(own_cgroup))
    }

    fn open_under(proc: &Path, group: Option<PathBuf>) -> Option<Self> {
        let of_group = |file: &str, line| Stalls::open(group.as_ref()?.join(file), line);
        let of_machine = |file: &str, line| Stalls::open(proc.join("pressure").join(file), line);
        let memory = of_group("memory.pressure", "some").or_else(|| of_machine("memory", "some"));
        let io = of_group("io.pressure", "full").or_else(|| of_machine("io", "full"));
        let cpu = of_machine("cpu", "some");
        let group_cpu = of_group("cpu.pressure", "full");
        let source = Self { memory, io, cpu, group_cpu, group };
        let knows_any = source.memory.is_some()
            || source.io.is_some()
            || machine_available().is_some()
            || machine_demand().is_some();
        knows_any.then_some(source)
    }

    /// Measures over the `elapsed` microseconds since the last call. The first call only returns
    /// instantaneous values.
    pub(crate) fn measure(&mut self, elapsed: Option<u64>) -> Sample {
        let waited = self.cpu.as_mut().map(|stalls| stalls.share(elapsed));
        let machine = machine_demand().map(|demand| match waited {
            // The count is a momentary value: it can be high although few threads wait on average.
            Some(waited) if waited.unwrap_or(0) < ALL / 2 => demand.min(ALL),
            _ => demand,
        });
        let group = self.group_cpu.as_mut().and_then(|stalls| stalls.share(elapsed)).map(demand_of);
        let group_available = self.group.as_deref().and_then(group_available);
        let available = [machine_available(), group_available].into_iter().flatten().min();
        Sample {
            memory: narrow(self.memory.as_mut().and_then(|stalls| stalls.share(elapsed))),
            available_memory: narrow(available),
            cpu: narrow(machine.max(group)),
            io: narrow(self.io.as_mut().and_then(|stalls| stalls.share(elapsed))),
        }
    }
}

impl fmt::Display for PressureSource {
    /// Lists the sources of the measurements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stalls = [&self.memory, &self.io, &self.cpu, &self.group_cpu];
        for stalls in stalls.into_iter().flatten() {
            write!(f, "{}, ", stalls.path.display())?;
        }
        f.write_str("available memory, threads that want to run")
    }
}

/// A counter of the kernel: the total stall time since boot.
#[derive(Debug)]
struct Stalls {
    path: PathBuf,
    line: &'static str,
    before: Option<u64>,
}

impl Stalls {
    fn open(path: PathBuf, line: &'static str) -> Option<Self> {
        let stalls = Self { path, line, before: None };
        stalls.total()?;
        Some(stalls)
    }

    /// Returns the counter in microseconds.
    fn total(&self) -> Option<u64> {
        total(&fs::read_to_string(&self.path).ok()?, self.line)
    }

    /// Returns the stalled share of the `elapsed` microseconds since the last call, in thousandths.
    fn share(&mut self, elapsed: Option<u64>) -> Option<u64> {
        let total = self.total();
        let before = std::mem::replace(&mut self.before, total)?;
        let stalled = total?.saturating_sub(before);
        let elapsed = elapsed.filter(|micros| *micros > 0)?;
        Some((stalled.saturating_mul(ALL) / elapsed).min(ALL))
    }
}

/// Parses the total from a line of a pressure file, such as `some avg10=0.00 … total=397878`.
fn total(text: &str, line: &str) -> Option<u64> {
    let fields = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '))?;
    fields.split(' ').find_map(|field| field.strip_prefix("total="))?.trim().parse().ok()
}

/// Returns the threads per CPU if all of them wait for the given share of the time. Both are in
/// thousandths.
fn demand_of(waiting: u64) -> u64 {
    (ALL * ALL / ALL.saturating_sub(waiting).max(1)).min(DEMAND_MAX)
}

/// Returns the runnable threads, without the calling one, in thousandths of the number of CPUs.
fn machine_demand() -> Option<u64> {
    demand(&fs::read_to_string("/proc/stat").ok()?)
}

fn demand(stat: &str) -> Option<u64> {
    let is_processor =
        |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| !rest.starts_with(' '));
    let n_processors = u64::try_from(stat.lines().filter(is_processor).count()).ok()?;
    let running: u64 = number(stat, "procs_running ")?;
    Some((running.saturating_sub(1) * ALL).checked_div(n_processors)?.min(DEMAND_MAX))
}

/// Returns the available share of the host's memory, in thousandths.
fn machine_available() -> Option<u64> {
    available(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn available(meminfo: &str) -> Option<u64> {
    let kib = |name| number(meminfo, name);
    (kib("MemAvailable:")?.saturating_mul(ALL)).checked_div(kib("MemTotal:")?)
}

/// Returns the available share of a cgroup's memory limit, in thousandths; `None` without a limit.
fn group_available(group: &Path) -> Option<u64> {
    let read = |file: &str| fs::read_to_string(group.join(file)).ok();
    let most: u64 = read("memory.max")?.trim().parse().ok()?;
    let current: u64 = read("memory.current")?.trim().parse().ok()?;
    // The page cache that the kernel reclaims first when the group needs more memory.
    let spare = read("memory.stat").and_then(|stat| number(&stat, "inactive_file "));
    let used = current.saturating_sub(spare.unwrap_or(0)).min(most);
    ((most - used).saturating_mul(ALL)).checked_div(most)
}

/// Returns the number after `name` at the beginning of a line.
fn number(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// Returns the directory of the worker's own cgroup (version 2), if there is one.
fn own_cgroup() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let root = roots.into_iter().find(|root| root.join("cgroup.controllers").exists())?;
    Some(root.join(path))
}

fn narrow(permille: Option<u64>) -> Option<u32> {
    permille.map(|n| u32::try_from(n).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
