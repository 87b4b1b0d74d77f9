//! What a process goes through before it becomes its program.

use std::os::fd::BorrowedFd;
use std::{error, fmt, io};

use rustix::io::Errno;

/// What a process goes through before it becomes its program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate<'a> {
    /// Linux: the file of a control group into which it writes 0 to enter.
    pub entrance: Option<BorrowedFd<'a>>,
    /// The address space that it, and each process that it starts, may have, in bytes.
    pub address_space: Option<u64>,
    /// The processes that its user may have; root is exempt.
    pub processes: Option<u64>,
}

/// Why there is no process.
#[derive(Debug)]
pub enum NotStarted {
    /// It could not go through its gate.
    Gate(io::Error),
    /// It could not become its program, or there may not be another.
    Program(io::Error),
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gate(error) => write!(f, "cannot be held to its limits: {error}"),
            Self::Program(error) => error.fmt(f),
        }
    }
}

impl error::Error for NotStarted {}

/// Holds the calling process to its limits, or to what it was held to before if that is less.
/// It calls the system, and does nothing else.
pub(crate) fn limit(gate: &Gate<'_>) -> Result<(), Errno> {
    let limits = [(libc::RLIMIT_AS, gate.address_space), (libc::RLIMIT_NPROC, gate.processes)];
    for (resource, most) in limits {
        let Some(most) = most else { continue };
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the place is ours, and of the type that both calls take.
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

/// What the last call to the system has failed of.
pub(crate) fn errno() -> Errno {
    let error = io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::INVAL)
}
