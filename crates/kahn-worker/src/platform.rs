//! What differs between operating systems, in one place.
//!
//! Linux gives everything. Elsewhere only process groups are known: a daemon that leaves its
//! group outlives its attempt, peak memory is what the system reports at the end, and nothing
//! holds an attempt to what it asked for.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(not(target_os = "linux"))]
use portable as system;

pub use system::shield_memory;
pub(crate) use system::{
    Adopted, Cgroups, ExitWatch, Group, Inside, adopt_orphans, all_pids, clear_stale, facts,
    hold_process, io_bytes, make_fifo, memory_now, memory_peak, n_out_of_memory_kills, probe,
    tree_memory_peak, variable,
};

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

use rustix::process::Pid;

/// What is known of a process besides its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Its process group.
    pub(crate) group: Option<Pid>,
    /// Whether it is dead and waits to be reaped.
    pub(crate) is_dead: bool,
    /// When it started, in clock ticks since the machine did: tells two holders of one id apart.
    pub(crate) started_ticks: u64,
}

/// What the environment of a process tells about one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Variable {
    /// Its value.
    Value(OsString),
    /// There is no such variable, or the environment may not be read.
    Hidden,
    /// The process is about to start its program, and will show later.
    NotYet,
}

/// What an attempt can be held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Controller {
    /// Memory.
    Memory,
    /// Processes and threads.
    Pids,
    /// Processors.
    Cpu,
}

impl Controller {
    /// All there are.
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];
}

/// How much of the processors an attempt gets, in thousandths of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// This much where processors are short, and more where they are idle.
    Weight(u64),
    /// This much and no more.
    Quota(u64),
}

/// What a group is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Memory, in bytes.
    pub(crate) memory: Option<u64>,
    /// Processes and threads.
    pub(crate) pids: u64,
    /// Processors.
    pub(crate) share: Share,
}

/// A shell that enters a control group and becomes `program`. What it is given are arguments, and
/// never text of the script.
pub(crate) fn entering(entrance: &Path, program: &OsStr) -> Command {
    const SCRIPT: &str = r#"echo 0 > "$1" || exit 126; shift; exec "$@""#;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT, "kahn"]).arg(entrance).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_enters_a_group_gets_its_arguments_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let entrance = dir.path().join("a 'group' $(x)");
        let mut command = entering(&entrance, "printf".as_ref());
        let output = command.args(["%s|", "$HOME", "a b", "`c`", ""]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "$HOME|a b|`c`||");
        assert_eq!(std::fs::read_to_string(&entrance).unwrap(), "0\n");
    }

    #[test]
    fn what_cannot_enter_its_group_does_not_run() {
        let entrance = Path::new("/proc/no/such/group");
        let output = entering(entrance, "echo".as_ref()).arg("ran").output().unwrap();
        assert_eq!((output.status.code(), output.stdout), (Some(126), Vec::new()));
    }
}
