//! What differs between operating systems, in one place.
//!
//! Linux gives everything. Elsewhere only process groups are known: a daemon that leaves its
//! group outlives its attempt, peak memory is what the system reports at the end, nothing holds an
//! attempt to what it asked for, and nothing is known of pressure.

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

/// What is known of a process besides its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its process group; none when the process is being reaped.
    pub group: Option<Pid>,
    /// Whether it is dead and waits to be reaped.
    pub is_dead: bool,
    /// Whether it was told to stop, and has.
    pub is_stopped: bool,
    /// When it started, in clock ticks since the machine did: tells two holders of one id apart.
    pub started_ticks: u64,
}

/// What the environment of a process tells about one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// Its value.
    Value(OsString),
    /// There is no such variable, or the environment may not be read.
    Hidden,
    /// The process is about to start its program, and will show later.
    NotYet,
}

/// What an attempt can be held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Memory.
    Memory,
    /// Processes and threads.
    Pids,
    /// Processors.
    Cpu,
}

impl Controller {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];
}

/// Where memory is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Nowhere.
    Not,
    /// Together with that of all attempts of the worker.
    WithAll,
    /// By itself.
    Alone,
}

/// How much of the processors an attempt gets, in thousandths of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// This much where processors are short, and more where they are idle.
    Weight(u64),
    /// This much and no more.
    Quota(u64),
}

/// What a group is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Processors.
    pub share: Share,
}

/// What a process goes through before it becomes its program, where the thread that starts it
/// cannot do it for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// The file into which it writes 0 to enter a control group.
    pub entrance: Option<PathBuf>,
    /// The address space that it, and each process that it starts, may have, in bytes.
    pub address_space: Option<u64>,
    /// The processes that its user may have.
    pub pids: Option<u64>,
}

impl Gate {
    /// Whether there is nothing to go through.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// The file through which a process enters a control group, opened for it.
    ///
    /// # Errors
    ///
    /// Fails when it may not be written.
    pub fn open_entrance(&self) -> io::Result<Option<File>> {
        let open = |path: &PathBuf| OpenOptions::new().write(true).open(path);
        self.entrance.as_ref().map(open).transpose()
    }

    /// The same for whoever starts a program, with the file that was opened.
    pub fn through<'a>(&self, entrance: Option<&'a File>) -> kahn_spawn::Gate<'a> {
        kahn_spawn::Gate {
            entrance: entrance.map(File::as_fd),
            address_space: self.address_space,
            processes: self.pids,
        }
    }

    /// A shell that goes through it and becomes `program`. What it is given are arguments, and
    /// never text of the script. It ends with code 126 where it cannot go through.
    pub fn command(&self, program: &OsStr) -> Command {
        // Shells do not agree on how the limit of processes is called.
        const SCRIPT: &str = r#"[ -z "$1" ] || echo 0 > "$1" || exit 126
[ -z "$2" ] || ulimit -v "$2" || exit 126
[ -z "$3" ] || ulimit -u "$3" 2>/dev/null || ulimit -p "$3" || exit 126
shift 3
exec "$@""#;
        let text = |number: Option<u64>| number.map_or_else(String::new, |n| n.to_string());
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, "kahn"])
            .arg(self.entrance.as_deref().unwrap_or(Path::new("")))
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
    fn what_goes_through_a_gate_gets_its_arguments_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let entrance = dir.path().join("a 'group' $(x)");
        let gate = Gate { entrance: Some(entrance.clone()), ..Gate::default() };
        let mut command = gate.command("printf".as_ref());
        let output = command.args(["%s|", "$HOME", "a b", "`c`", ""]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "$HOME|a b|`c`||");
        assert_eq!(std::fs::read_to_string(&entrance).unwrap(), "0\n");
    }

    #[test]
    fn limits_hold_for_what_has_gone_through() {
        let gate = Gate { address_space: Some(1 << 30), pids: Some(9999), ..Gate::default() };
        let script = "ulimit -v; ulimit -u 2>/dev/null || ulimit -p";
        let output = gate.command("sh".as_ref()).args(["-c", script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1048576\n9999\n");
    }

    #[test]
    fn what_cannot_go_through_does_not_run() {
        let gate = Gate { entrance: Some("/proc/no/such/group".into()), ..Gate::default() };
        let output = gate.command("echo".as_ref()).arg("ran").output().unwrap();
        assert_eq!((output.status.code(), output.stdout), (Some(126), Vec::new()));
    }
}
