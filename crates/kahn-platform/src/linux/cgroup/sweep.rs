//! Kills the processes of groups, and removes groups.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::linux::facts;
use crate::parse_pid;

/// The prefix of the names of all groups created by workers.
pub(super) const PREFIX: &str = "kahn-";
const N_ROUNDS_MAX: u32 = 2_000;
const PAUSE: Duration = Duration::from_millis(2);

/// Returns the processes of a group, except this one.
pub(super) fn processes(dir: &Path) -> Vec<Pid> {
    let own = rustix::process::getpid();
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let pids = text.lines().filter_map(parse_pid);
    pids.filter(|pid| *pid != own).collect()
}

/// Kills the processes of a group, at once if the kernel supports it, and otherwise one by one.
pub(super) fn kill(dir: &Path) {
    if fs::write(dir.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for pid in processes(dir) {
        // An error means that it is gone already.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// Returns a group name that is unique to this process: a process id may be reused, but not with
/// the same start time, and each PID namespace has a unique number.
pub(super) fn name(worker: &str, number: u64) -> String {
    let own = rustix::process::getpid();
    let started = facts(own).map_or(0, |facts| facts.started_ticks);
    format!("{PREFIX}{worker}-{}-{}-{started}-{number}", pid_space(), own.as_raw_pid())
}

fn pid_space() -> u64 {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let digits: String = link.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Returns whether a group was created by a process that is known to be gone.
fn is_stale(dir: &Path) -> bool {
    let Some(name) = dir.file_name().and_then(|name| name.to_str()) else { return false };
    if !name.starts_with(PREFIX) {
        return false;
    }
    let mut fields = name.rsplit('-').skip(1);
    let mut number = || fields.next().and_then(|field| field.parse::<u64>().ok());
    let (Some(started), Some(pid), Some(space)) = (number(), number(), number()) else {
        return false;
    };
    let pid = parse_pid(&pid.to_string());
    let is_alive = pid.and_then(facts).is_some_and(|found| found.started_ticks == started);
    space == pid_space() && !is_alive
}

/// Removes those of `dirs` that were left by dead workers, and kills their processes. Blocks until
/// they are dead. Returns the number of killed processes.
pub fn clear_stale(dirs: impl IntoIterator<Item = PathBuf>) -> usize {
    dirs.into_iter().filter(|dir| is_stale(dir)).map(|dir| clear(&dir)).sum()
}

/// Returns the child groups of a group.
pub(super) fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path()).collect()
}

/// Kills all processes of a group and its children, and removes the groups. Returns the number of
/// killed processes.
pub(super) fn clear(dir: &Path) -> usize {
    let below = children(dir);
    // A fork bomb might otherwise create processes faster than they are killed.
    for group in below.iter().map(PathBuf::as_path).chain([dir]) {
        let _ = fs::write(group.join("pids.max"), "0");
    }
    let mut killed = std::collections::BTreeSet::new();
    for _ in 0..N_ROUNDS_MAX {
        let groups = below.iter().map(PathBuf::as_path).chain([dir]);
        let left: Vec<Pid> = groups.clone().flat_map(processes).collect();
        if left.is_empty() {
            break;
        }
        killed.extend(left.into_iter().map(Pid::as_raw_pid));
        groups.for_each(kill);
        std::thread::sleep(PAUSE);
    }
    for group in below.iter().map(PathBuf::as_path).chain([dir]) {
        if let Err(error) = fs::remove_dir(group)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(group = %group.display(), %error, "control group cannot be removed");
        }
    }
    killed.len()
}
