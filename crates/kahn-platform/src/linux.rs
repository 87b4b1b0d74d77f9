//! Linux: orphans are adopted by the worker, `/proc` identifies their attempts, and pidfds report
//! exits.

mod cgroup;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::str;

use rustix::process::{DumpableBehavior, Pid, PidfdFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Facts, Variable, parse_pid};
pub use cgroup::{Cgroups, Group, Membership, clear_stale, probe};

/// The maximum number of processes per memory sample.
const N_SAMPLED_MAX: usize = 256;

/// Makes this process the new parent of all orphans among its descendants.
///
/// # Errors
///
/// Returns an error if the system call is not permitted.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Makes memory and environment of this process unreadable to other processes of the same user,
/// including tasks, and disables core dumps. Children are not affected. It does not protect against
/// root.
///
/// # Errors
///
/// Returns an error if the system call is not permitted.
pub fn shield_memory() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// The children of the main thread.
///
/// An orphan is handed to the first living thread of the process that adopts it, which is the main
/// thread. Children started by other threads are listed with those. So in a process that starts its
/// children from other threads, this list contains only orphans and is usually empty. Reading it
/// costs about a microsecond.
#[derive(Debug)]
pub struct Adopted {
    listing: Option<File>,
}

impl Adopted {
    /// Opens the list. It stays empty on a kernel without this feature.
    pub fn open() -> Self {
        let own = rustix::process::getpid().as_raw_pid();
        let listing = File::open(format!("/proc/{own}/task/{own}/children"));
        if let Err(error) = &listing {
            tracing::warn!(%error, "daemons that leave their process group will not be found");
        }
        Self { listing: listing.ok() }
    }

    /// Returns the listed processes.
    ///
    /// Entries may be missed while others leave the list, so a caller that acted on an entry must
    /// read it again.
    pub fn pids(&self) -> Vec<Pid> {
        let Some(listing) = &self.listing else { return Vec::new() };
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let offset = u64::try_from(text.len()).unwrap_or(u64::MAX);
            match listing.read_at(&mut buffer, offset) {
                Ok(0) | Err(_) => return parse_pids(&text),
                Ok(n) => text.extend_from_slice(&buffer[..n]),
            }
        }
    }
}

fn parse_pids(text: &[u8]) -> Vec<Pid> {
    let Ok(text) = str::from_utf8(text) else { return Vec::new() };
    text.split_ascii_whitespace().filter_map(parse_pid).collect()
}

/// Reads the state of a process. Returns `None` when there is no such process.
pub fn facts(pid: Pid) -> Option<Facts> {
    parse_stat(&read_stat(pid)?).map(|stat| stat.facts)
}

fn read_stat(pid: Pid) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{}/stat", pid.as_raw_pid())).ok()
}

/// The relevant fields of a `/proc/PID/stat` file.
#[derive(Clone, Copy, Debug)]
struct Stat {
    facts: Facts,
    /// The end address of the environment. It is 0 before the process executes its program, and
    /// when it is dead.
    environment_end: u64,
}

/// Parses a `stat` file, see proc_pid_stat(5).
fn parse_stat(stat: &[u8]) -> Option<Stat> {
    // The second field is the program name in parentheses, and may contain any characters,
    // including parentheses.
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let text = str::from_utf8(&stat[after_name..]).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = fields.next()?;
    let group = parse_pid(fields.nth(1)?);
    let started_ticks = fields.nth(16)?.parse().ok()?;
    let environment_end = fields.nth(28)?.parse().ok()?;
    let (is_dead, is_stopped) = (matches!(state, "Z" | "X"), matches!(state, "T" | "t"));
    Some(Stat { facts: Facts { group, is_dead, is_stopped, started_ticks }, environment_end })
}

/// Reads a variable of the environment that a process was started with.
pub fn variable(pid: Pid, name: &str) -> Variable {
    let Ok(environment) = fs::read(format!("/proc/{}/environ", pid.as_raw_pid())) else {
        return Variable::Hidden;
    };
    // A dead process has no environment either. Its main thread may be dead while others run.
    let is_starting = |stat: Stat| stat.environment_end == 0 && !stat.facts.is_dead;
    if environment.is_empty()
        && read_stat(pid).and_then(|stat| parse_stat(&stat)).is_some_and(is_starting)
    {
        return Variable::NotYet;
    }
    let value = environment.split(|&byte| byte == 0).find_map(|variable| {
        variable.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec)
    });
    value.map_or(Variable::Hidden, |value| Variable::Value(OsString::from_vec(value)))
}

/// Returns the children of a process, of all its threads.
pub fn children(pid: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{}/task", pid.as_raw_pid()));
    let listings = threads.into_iter().flatten().flatten().map(|thread| {
        // The children of an ended thread have moved to another thread, where they are found.
        fs::read(thread.path().join("children")).unwrap_or_default()
    });
    listings.flat_map(|text| parse_pids(&text)).collect()
}

/// Returns all processes.
pub fn all_pids() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| parse_pid(entry.ok()?.file_name().to_str()?)).collect()
}

/// Returns the peak resident memory of a live process since it executed its program, in bytes.
pub fn memory_peak(pid: Pid) -> Option<u64> {
    memory_in_status(pid, "VmHWM:")
}

/// Returns the resident memory of a live process, in bytes.
pub fn memory_now(pid: Pid) -> Option<u64> {
    memory_in_status(pid, "VmRSS:")
}

fn memory_in_status(pid: Pid, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Returns the bytes that a process, including its reaped children, read from and wrote to storage.
/// Also works for a zombie.
pub fn io_bytes(pid: Pid) -> Option<(u64, u64)> {
    let file = File::open(format!("/proc/{}/io", pid.as_raw_pid())).ok()?;
    let mut buffer = [0; 512];
    let n_read = file.read_at(&mut buffer, 0).ok()?;
    let counters = str::from_utf8(&buffer[..n_read]).ok()?;
    let count = |name| {
        let line = counters.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    let cancelled = count("cancelled_write_bytes:").unwrap_or(0);
    Some((count("read_bytes:")?, count("write_bytes:")?.saturating_sub(cancelled)))
}

/// Returns the number of OOM kills on this host since boot, in all cgroups.
pub fn n_out_of_memory_kills() -> Option<u64> {
    let counters = fs::read_to_string("/proc/vmstat").ok()?;
    counters.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// Creates a FIFO that only this user can access.
///
/// # Errors
///
/// Returns an error if the file exists, or if the directory is not writable.
pub fn make_fifo(path: &std::path::Path) -> io::Result<()> {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    Ok(rustix::fs::mkfifoat(rustix::fs::CWD, path, mode)?)
}

/// Returns the largest [`memory_peak`] of a process and its descendants. The number of processes
/// that are read is limited.
pub fn tree_memory_peak(root: Pid) -> Option<u64> {
    let mut peak = None;
    let mut pending = vec![root];
    for _ in 0..N_SAMPLED_MAX {
        let Some(pid) = pending.pop() else { break };
        peak = peak.max(memory_peak(pid));
        pending.extend(children(pid));
    }
    peak
}

/// Waits for the death of a child without reaping it.
#[derive(Debug)]
pub struct ExitWatch {
    pidfd: AsyncFd<OwnedFd>,
}

impl ExitWatch {
    /// Watches a child that has not been reaped.
    ///
    /// # Errors
    ///
    /// Returns an error if there are no descriptors left.
    pub fn new(child: Pid) -> io::Result<Self> {
        let pidfd = rustix::process::pidfd_open(child, PidfdFlags::NONBLOCK)?;
        #[expect(deprecated, reason = "sound for a descriptor that is owned and never replaced")]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
        Ok(Self { pidfd })
    }

    /// Waits until the child has died. Cancellation safe.
    pub async fn died(&self) {
        // An error means that the runtime is shutting down, and so is this task.
        if self.pidfd.readable().await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_this_process_are_read() {
        let facts = facts(rustix::process::getpid()).unwrap();
        assert_eq!(facts.group, Some(rustix::process::getpgrp()));
        assert!(!facts.is_dead && facts.started_ticks > 0);
    }

    #[test]
    fn memory_of_this_process_is_plausible() {
        let peak = memory_peak(rustix::process::getpid()).unwrap();
        assert!((1 << 20..1 << 36).contains(&peak), "{peak}");
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let own = rustix::process::getpid();
        assert!(matches!(variable(own, "PATH"), Variable::Value(_)));
        assert_eq!(variable(own, "PAT"), Variable::Hidden);
        let stat = parse_stat(&read_stat(own).unwrap()).unwrap();
        assert!(stat.environment_end > 0);
    }

    /// The `stat` line of a process that is being reaped, without the name.
    const DYING: &str = "X 1 -1 -1 0 -1 4228108 0 0 0 0 0 0 0 0 20 0 0 0 555 0 0 0 0 0 0 0 0 0 0 0 \
                         0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0";

    #[test]
    fn a_process_that_is_being_reaped_has_no_group() {
        for name in ["sh", "a) Z 1 1 (b", "((", ""] {
            let stat = parse_stat(format!("7 ({name}) {DYING}").as_bytes()).unwrap();
            let facts = stat.facts;
            assert_eq!((facts.group, facts.is_dead, facts.started_ticks), (None, true, 555));
            assert_eq!(stat.environment_end, 0);
        }
    }

    #[test]
    fn a_dead_process_is_read_until_it_is_reaped() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        while !facts(pid).unwrap().is_dead {
            std::thread::yield_now();
        }
        assert!(facts(pid).unwrap().group.is_some_and(|group| group.as_raw_pid() > 0));
        assert_eq!(variable(pid, "PATH"), Variable::Hidden);
        assert_eq!((children(pid), memory_now(pid), memory_peak(pid)), (Vec::new(), None, None));
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn processes_can_be_read_at_any_moment_of_their_end() {
        for _ in 0..200 {
            let mut child = std::process::Command::new("true").spawn().unwrap();
            let pid = Pid::from_child(&child);
            let reaping = std::thread::spawn(move || child.wait().unwrap());
            while let Some(facts) = facts(pid) {
                assert!(facts.group.is_none_or(|group| group.as_raw_pid() > 0));
                variable(pid, "PATH");
                children(pid);
                memory_now(pid);
                io_bytes(pid);
            }
            assert!(reaping.join().unwrap().success());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
        ) {
            parse_stat(&bytes);
            parse_pids(&bytes);
        }

        #[test]
        fn a_group_is_positive_or_none_wherever_a_line_is_cut(
            name in ".{0,20}", group in proptest::prelude::any::<i64>(), end in 0_usize..300,
        ) {
            let line = format!("7 ({name}) {}", DYING.replacen("-1", &group.to_string(), 1));
            let whole = parse_stat(line.as_bytes()).unwrap();
            let expected = i32::try_from(group).ok().filter(|group| *group > 0);
            proptest::prop_assert_eq!(whole.facts.group.map(Pid::as_raw_pid), expected);
            if let Some(cut) = parse_stat(&line.as_bytes()[..end.min(line.len())]) {
                proptest::prop_assert!(cut.facts.group.is_none_or(|group| group.as_raw_pid() > 0));
            }
        }
    }
}
