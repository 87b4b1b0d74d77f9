//! Other systems: only what process groups provide.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::{Controller, Counted, Facts, GroupLimits, Variable};

/// The interval for polling whether a child has died.
const POLL_PERIOD: Duration = Duration::from_millis(5);

/// Does nothing, since orphans cannot be adopted.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(())
}

/// Does nothing.
///
/// # Errors
///
/// Never fails.
pub fn shield_memory() -> io::Result<()> {
    Ok(())
}

/// An empty list of orphans.
#[derive(Debug)]
pub struct Adopted;

impl Adopted {
    pub fn open() -> Self {
        Self
    }

    pub fn pids(&self) -> Vec<Pid> {
        Vec::new()
    }
}

/// Not supported.
pub fn children(_pid: Pid) -> Vec<Pid> {
    Vec::new()
}

/// Not supported.
pub fn facts(_pid: Pid) -> Option<Facts> {
    None
}

/// Not supported.
pub fn variable(_pid: Pid, _name: &str) -> Variable {
    Variable::Hidden
}

/// Not supported.
pub fn all_pids() -> Vec<Pid> {
    Vec::new()
}

/// Not supported.
pub fn memory_peak(_pid: Pid) -> Option<u64> {
    None
}

/// Not supported.
pub fn memory_now(_pid: Pid) -> Option<u64> {
    None
}

/// Not supported.
pub fn n_out_of_memory_kills() -> Option<u64> {
    None
}

/// Creates an empty file, which is not a lifeline. Interpreters then rely on the end of their
/// connection.
pub fn make_fifo(path: &std::path::Path) -> io::Result<()> {
    std::fs::File::create_new(path).map(drop)
}

/// Not supported.
pub fn tree_memory_peak(_root: Pid) -> Option<u64> {
    None
}

/// Waits for the death of a child by polling, without reaping it.
#[derive(Debug)]
pub struct ExitWatch {
    pid: Pid,
}

impl ExitWatch {
    pub fn new(child: Pid) -> io::Result<Self> {
        Ok(Self { pid: child })
    }

    pub async fn died(&self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while matches!(rustix::process::waitid(WaitId::Pid(self.pid), options), Ok(None)) {
            tokio::time::sleep(POLL_PERIOD).await;
        }
    }
}

/// Not supported.
pub fn io_bytes(_pid: Pid) -> Option<(u64, u64)> {
    None
}

fn no_groups() -> String {
    "this system has no control groups".to_owned()
}

/// Returns that no controller is usable, since there are no control groups.
pub fn probe() -> Vec<(Controller, Result<u8, String>)> {
    Controller::ALL.map(|controller| (controller, Err(no_groups()))).to_vec()
}

/// Does nothing.
pub fn clear_stale(_dirs: impl IntoIterator<Item = PathBuf>) -> usize {
    0
}

/// Not supported.
#[derive(Debug)]
pub struct Cgroups;

impl Cgroups {
    pub fn open(
        _worker: &str,
        _memory: Option<u64>,
        _cpu_milli: u64,
    ) -> (Self, Vec<(Controller, String)>) {
        (Self, Controller::ALL.map(|controller| (controller, no_groups())).to_vec())
    }

    pub fn version(&self, _controller: Controller) -> Option<u8> {
        None
    }

    pub fn dirs(&self) -> BTreeSet<&Path> {
        BTreeSet::new()
    }

    pub fn is_memory_bounded(&self) -> bool {
        false
    }

    pub fn has_common(&self) -> bool {
        false
    }

    pub fn n_common_kills(&self) -> u64 {
        0
    }

    pub fn make(&self) -> io::Result<Group> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Never constructed.
#[derive(Debug)]
pub struct Membership(());

/// Never constructed.
#[derive(Debug)]
pub struct Group;

impl Group {
    pub fn set_limits(&mut self, _wanted: GroupLimits) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn enter(&self, _memory: Counted, _with_cpu: bool) -> io::Result<Membership> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn is_entered(&self, _membership: &Membership, _memory: Counted, _cpu: bool) -> bool {
        false
    }

    pub fn set_has_own_thread(&mut self, _has_own_thread: bool) {}

    pub fn move_to_cpu_group(&self) {}

    pub fn cgroup_procs(&self) -> Option<PathBuf> {
        None
    }

    pub fn last_kill_count(&self) -> u64 {
        0
    }

    pub fn update_kill_count(&mut self) -> u64 {
        0
    }

    pub fn memory(&self) -> u64 {
        0
    }

    pub fn is_empty(&self) -> bool {
        true
    }

    pub fn kill(&mut self) {}
}
