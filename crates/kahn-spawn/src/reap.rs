//! The end of a child, and what it used.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Pid;

/// How a process ended and what it used, together with those of its children that it waited for.
#[derive(Clone, Copy, Debug)]
pub struct Reaped {
    /// How it ended.
    pub status: ExitStatus,
    /// Processor time outside of the system.
    pub user: Duration,
    /// Processor time in the system.
    pub system: Duration,
    /// The largest resident memory of any one process, in bytes. It counts in what the parent held
    /// when it started the process.
    pub memory_peak: u64,
    /// Bytes that came from storage, where the system counts them.
    pub read_bytes: u64,
    /// Bytes that go to storage, where the system counts them; what was removed before it got
    /// there is in them.
    pub written_bytes: u64,
}

/// Waits for the end of a child, and takes note of it, so that its id is free again.
///
/// # Errors
///
/// Fails when there is no such child.
pub fn reap(child: Pid) -> io::Result<Reaped> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both places are ours, and all that the call writes to.
        let found =
            unsafe { libc::wait4(child.as_raw_pid(), &raw mut status, 0, usage.as_mut_ptr()) };
        if found != -1 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: it is made of integers, for which zeros are good, and the call has filled it in.
    let usage = unsafe { usage.assume_init() };
    Ok(Reaped {
        status: ExitStatus::from_raw(status),
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        memory_peak: u64::try_from(usage.ru_maxrss).unwrap_or(0) * MAXRSS_BYTES,
        read_bytes: u64::try_from(usage.ru_inblock).unwrap_or(0) * BLOCK_BYTES,
        written_bytes: u64::try_from(usage.ru_oublock).unwrap_or(0) * BLOCK_BYTES,
    })
}

/// What the system counts the largest resident memory in.
const MAXRSS_BYTES: u64 = if cfg!(target_vendor = "apple") { 1 } else { 1024 };

/// What the system counts transfers in. Elsewhere than on Linux it counts calls, which say nothing.
const BLOCK_BYTES: u64 = if cfg!(target_os = "linux") { 512 } else { 0 };

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}
