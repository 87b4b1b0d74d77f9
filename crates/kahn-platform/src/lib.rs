//! Abstracts the differences between operating systems.
//!
//! Linux supports everything. Other systems only have process groups: a daemon that leaves its
//! group survives its attempt, peak memory is only known at the end, limits are not enforced, and
//! pressure is unknown.

mod ids;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(not(target_os = "linux"))]
use portable as system;

pub use ids::{ProcessGroup, parse_pid};
pub use system::{
    Adopted, Cgroups, ExitWatch, Group, Membership, adopt_orphans, all_pids, children, clear_stale,
    facts, io_bytes, make_fifo, memory_now, memory_peak, n_out_of_memory_kills, probe,
    shield_memory, tree_memory_peak, variable,
};

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;

/// The state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its process group, or `None` while the process is being reaped.
    pub group: Option<Pid>,
    /// Whether it is a zombie.
    pub is_dead: bool,
    /// Whether it is stopped.
    pub is_stopped: bool,
    /// Its start time in clock ticks since boot. Distinguishes processes that had the same id.
    pub started_ticks: u64,
}

/// The result of reading an environment variable of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// The value.
    Value(OsString),
    /// The variable is not set, or the environment is not readable.
    Hidden,
    /// The process has not executed its program yet.
    NotYet,
}

/// A resource controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Memory.
    Memory,
    /// Processes and threads.
    Pids,
    /// CPUs.
    Cpu,
}

impl Controller {
    /// All controllers.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];
}

/// Where memory is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Nowhere.
    Not,
    /// To a group shared by all attempts of the worker.
    WithAll,
    /// To a separate group.
    Alone,
}

/// The CPU share of an attempt, in thousandths of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// This share if CPUs are contended, and more if they are idle.
    Weight(u64),
    /// At most this much.
    Quota(u64),
}

/// The limits of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// CPU share.
    pub share: Share,
}

/// Limits that a process applies to itself before it executes its program, where the thread that
/// starts it cannot apply them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreExecLimits {
    /// The file to which it writes 0 to join a control group.
    pub cgroup_procs: Option<PathBuf>,
    /// The maximum address space of the process and of each of its children, in bytes.
    pub address_space: Option<u64>,
    /// The maximum number of processes of its user.
    pub pids: Option<u64>,
}

impl PreExecLimits {
    /// Returns whether there are no limits to apply.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Opens the file through which a process joins a control group.
    ///
    /// # Errors
    ///
    /// Returns an error if it is not writable.
    pub fn open_cgroup_procs(&self) -> io::Result<Option<File>> {
        let open = |path: &PathBuf| OpenOptions::new().write(true).open(path);
        self.cgroup_procs.as_ref().map(open).transpose()
    }

    /// Converts it for a launcher, with the opened file.
    pub fn for_launcher<'a>(
        &self,
        cgroup_procs: Option<&'a File>,
    ) -> kahn_spawn::PreExecLimits<'a> {
        kahn_spawn::PreExecLimits {
            cgroup_procs: cgroup_procs.map(File::as_fd),
            address_space: self.address_space,
            processes: self.pids,
        }
    }

    /// Returns a shell command that applies the limits and then executes `program`. All values are
    /// passed as arguments and not inserted into the script. The command exits with code 126 if a
    /// limit cannot be applied.
    pub fn command(&self, program: &OsStr) -> Command {
        // Shells differ in the option for the maximum number of processes.
        const SCRIPT: &str = r#"[ -z "$1" ] || echo 0 > "$1" || exit 126
[ -z "$2" ] || ulimit -v "$2" || exit 126
[ -z "$3" ] || ulimit -u "$3" 2>/dev/null || ulimit -p "$3" || exit 126
shift 3
exec "$@""#;
        let text = |number: Option<u64>| number.map_or_else(String::new, |n| n.to_string());
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, "kahn"])
            .arg(self.cgroup_procs.as_deref().unwrap_or(Path::new("")))
            .arg(text(self.address_space.map(|bytes| bytes.div_ceil(1024))))
            .arg(text(self.pids))
            .arg(program);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_limits_passes_its_arguments_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let cgroup_procs = dir.path().join("a 'group' $(x)");
        let limits =
            PreExecLimits { cgroup_procs: Some(cgroup_procs.clone()), ..Default::default() };
        let mut command = limits.command("printf".as_ref());
        let output = command.args(["%s|", "$HOME", "a b", "`c`", ""]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "$HOME|a b|`c`||");
        assert_eq!(std::fs::read_to_string(&cgroup_procs).unwrap(), "0\n");
    }

    #[test]
    fn a_command_applies_its_limits() {
        let limits =
            PreExecLimits { address_space: Some(1 << 30), pids: Some(9999), ..Default::default() };
        let script = "ulimit -v; ulimit -u 2>/dev/null || ulimit -p";
        let output = limits.command("sh".as_ref()).args(["-c", script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1048576\n9999\n");
    }

    #[test]
    fn a_command_that_cannot_apply_its_limits_runs_nothing() {
        let limits = PreExecLimits {
            cgroup_procs: Some("/proc/no/such/group".into()),
            ..Default::default()
        };
        let output = limits.command("echo".as_ref()).arg("ran").output().unwrap();
        assert_eq!((output.status.code(), output.stdout), (Some(126), Vec::new()));
    }
}
