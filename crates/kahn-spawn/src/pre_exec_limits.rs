//! Limits that a process applies to itself before it executes its program.

use std::os::fd::BorrowedFd;
use std::{error, fmt, io};

use rustix::io::Errno;

/// Limits that a process applies to itself before it executes its program.
#[derive(Clone, Copy, Debug, Default)]
pub struct PreExecLimits<'a> {
    /// Linux: the file to which it writes 0 to join a control group.
    pub cgroup_procs: Option<BorrowedFd<'a>>,
    /// The maximum address space of the process and of each of its children, in bytes.
    pub address_space: Option<u64>,
    /// The maximum number of processes of its user. Root is exempt.
    pub processes: Option<u64>,
}

/// Why no process was started.
#[derive(Debug)]
pub enum NotStarted {
    /// The process could not apply its limits.
    Limits(io::Error),
    /// The program could not be executed, or no process could be created.
    Program(io::Error),
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limits(error) => write!(f, "cannot apply its limits: {error}"),
            Self::Program(error) => error.fmt(f),
        }
    }
}

impl error::Error for NotStarted {}

/// Sets the rlimits of the calling process, but keeps lower ones. Makes only system calls.
pub(crate) fn limit(wanted: &PreExecLimits<'_>) -> Result<(), Errno> {
    let limits = [(libc::RLIMIT_AS, wanted.address_space), (libc::RLIMIT_NPROC, wanted.processes)];
    for (resource, most) in limits {
        let Some(most) = most else { continue };
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a local variable of the type that both calls expect.
        unsafe {
            if libc::getrlimit(resource, &raw mut limit) != 0 {
                return Err(errno());
            }
            limit.rlim_max = limit.rlim_max.min(most);
            limit.rlim_cur = limit.rlim_max;
            if libc::setrlimit(resource, &raw const limit) != 0 {
                return Err(errno());
            }
        }
    }
    Ok(())
}

/// Returns the error of the last system call.
pub(crate) fn errno() -> Errno {
    let error = io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::INVAL)
}
