//! What differs between operating systems, in one place.
//!
//! Linux gives everything. Elsewhere only process groups are known: a daemon that leaves its
//! group outlives its attempt, and peak memory is what the system reports at the end.

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
    Adopted, ExitWatch, adopt_orphans, all_pids, children, facts, make_fifo, memory_now,
    memory_peak, n_out_of_memory_kills, tree_memory_peak, variable,
};

use std::ffi::OsString;

use rustix::process::Pid;

/// What is known of a process besides its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Its process group.
    pub(crate) group: Option<Pid>,
    /// Whether it is dead and waits to be reaped.
    pub(crate) is_dead: bool,
    /// Whether it was told to stop, and has.
    pub(crate) is_stopped: bool,
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
