//! Pressure as Linux tells of it: stalls by `/proc/pressure` or the cgroup, what is available by
//! `/proc/meminfo` and the cgroup, what wants to run by `/proc/stat`.
//!
//! That some thread waits for a processor says little: on two processors four threads make it all
//! the time, as sixteen do. So what counts is how many want to run, and where a cgroup has a quota
//! of processors, for how much of the time all of its threads wait, which is the same figure: of
//! n threads on one processor's worth of quota all wait for 1 - 1/n of the time.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use kahn_worker_core::Sample;

/// All there is, in thousandths.
const ALL: u64 = 1000;
/// More threads for each processor than are told apart, in thousandths.
const DEMAND_MAX: u64 = 100_000;

/// What pressure is measured by.
#[derive(Debug)]
pub(crate) struct PressureSource {
    memory: Option<Stalls>,
    io: Option<Stalls>,
    cpu: Option<Stalls>,
    group_cpu: Option<Stalls>,
    group: Option<PathBuf>,
}

impl PressureSource {
    /// Looks for what this system has; `None` when that is nothing.
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

    /// What was measured in the `elapsed` microseconds since the last call; at the first call,
    /// what can be told of the moment.
    pub(crate) fn measure(&mut self, elapsed: Option<u64>) -> Sample {
        let waited = self.cpu.as_mut().map(|stalls| stalls.share(elapsed));
        let machine = machine_demand().map(|demand| match waited {
            // There may be many at the moment of looking and few for most of the time.
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
    /// Where the figures come from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stalls = [&self.memory, &self.io, &self.cpu, &self.group_cpu];
        for stalls in stalls.into_iter().flatten() {
            write!(f, "{}, ", stalls.path.display())?;
        }
        f.write_str("available memory, threads that want to run")
    }
}

/// Time for which something waited, counted by the kernel since it started.
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

    /// In microseconds.
    fn total(&self) -> Option<u64> {
        total(&fs::read_to_string(&self.path).ok()?, self.line)
    }

    /// The share of the `elapsed` microseconds since the last call, in thousandths.
    fn share(&mut self, elapsed: Option<u64>) -> Option<u64> {
        let total = self.total();
        let before = std::mem::replace(&mut self.before, total)?;
        let stalled = total?.saturating_sub(before);
        let elapsed = elapsed.filter(|micros| *micros > 0)?;
        Some((stalled.saturating_mul(ALL) / elapsed).min(ALL))
    }
}

/// The total of one line of a file of pressure, as `some avg10=0.00 … total=397878`.
fn total(text: &str, line: &str) -> Option<u64> {
    let fields = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '))?;
    fields.split(' ').find_map(|field| field.strip_prefix("total="))?.trim().parse().ok()
}

/// How many threads there are for each processor, when all of them wait for so much of the time.
fn demand_of(waiting: u64) -> u64 {
    (ALL * ALL / ALL.saturating_sub(waiting).max(1)).min(DEMAND_MAX)
}

/// Threads that want to run, but for the one that asks, in thousandths of the processors.
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

/// How much of the machine's memory is available.
fn machine_available() -> Option<u64> {
    available(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn available(meminfo: &str) -> Option<u64> {
    let kib = |name| number(meminfo, name);
    (kib("MemAvailable:")?.saturating_mul(ALL)).checked_div(kib("MemTotal:")?)
}

/// How much of the memory that a cgroup may have is available; `None` where it may have all.
fn group_available(group: &Path) -> Option<u64> {
    let read = |file: &str| fs::read_to_string(group.join(file)).ok();
    let most: u64 = read("memory.max")?.trim().parse().ok()?;
    let current: u64 = read("memory.current")?.trim().parse().ok()?;
    // What the kernel would drop first when the group needs more.
    let spare = read("memory.stat").and_then(|stat| number(&stat, "inactive_file "));
    let used = current.saturating_sub(spare.unwrap_or(0)).min(most);
    ((most - used).saturating_mul(ALL)).checked_div(most)
}

/// The number after `name` at the beginning of a line.
fn number(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// Where the worker's own cgroup of version 2 is shown, if it is.
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
