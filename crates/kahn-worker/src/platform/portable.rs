//! Other systems: what process groups alone allow.

use std::io;
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::{Facts, Variable};

/// How often a child is asked whether it has died.
const POLL_PERIOD: Duration = Duration::from_millis(5);

/// Does nothing: orphans go elsewhere.
pub(crate) fn adopt_orphans() -> io::Result<()> {
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

/// No orphans.
#[derive(Debug)]
pub(crate) struct Adopted;

impl Adopted {
    pub(crate) fn open() -> Self {
        Self
    }

    pub(crate) fn pids(&self) -> Vec<Pid> {
        Vec::new()
    }
}

/// Nothing is known.
pub(crate) fn children(_pid: Pid) -> Vec<Pid> {
    Vec::new()
}

/// Nothing is known.
pub(crate) fn facts(_pid: Pid) -> Option<Facts> {
    None
}

/// Nothing is known.
pub(crate) fn variable(_pid: Pid, _name: &str) -> Variable {
    Variable::Hidden
}

/// Nothing is known.
pub(crate) fn all_pids() -> Vec<Pid> {
    Vec::new()
}

/// Nothing is known.
pub(crate) fn memory_peak(_pid: Pid) -> Option<u64> {
    None
}

/// Nothing is known.
pub(crate) fn memory_now(_pid: Pid) -> Option<u64> {
    None
}

/// Nothing is known.
pub(crate) fn n_out_of_memory_kills() -> Option<u64> {
    None
}

/// Makes an empty file, which is no lifeline: interpreters then see the end of their connection.
pub(crate) fn make_fifo(path: &std::path::Path) -> io::Result<()> {
    std::fs::File::create_new(path).map(drop)
}

/// Nothing is known.
pub(crate) fn tree_memory_peak(_root: Pid) -> Option<u64> {
    None
}

/// Tells when a child has died, by asking. It does not reap it.
#[derive(Debug)]
pub(crate) struct ExitWatch {
    pid: Pid,
}

impl ExitWatch {
    pub(crate) fn new(child: &Child) -> io::Result<Self> {
        Ok(Self { pid: Pid::from_child(child) })
    }

    pub(crate) async fn died(&self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while matches!(rustix::process::waitid(WaitId::Pid(self.pid), options), Ok(None)) {
            tokio::time::sleep(POLL_PERIOD).await;
        }
    }
}
