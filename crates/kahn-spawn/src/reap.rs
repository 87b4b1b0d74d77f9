//! Reaps a child and returns its resource usage.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Pid;

/// How a process ended, and what it and its reaped children used.
#[derive(Clone, Copy, Debug)]
pub struct Reaped {
    /// The exit status.
    pub status: ExitStatus,
    /// CPU time in user mode.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// The maximum resident memory of a single process, in bytes. Includes the memory of the parent
    /// at the time of the start.
    pub memory_peak: u64,
    /// Bytes read from storage, where the kernel counts them.
    pub read_bytes: u64,
    /// Bytes written to storage, where the kernel counts them. Includes data that was deleted
    /// before it reached the disk.
    pub written_bytes: u64,
}

/// Waits for the end of a child and reaps it, which releases its id.
///
/// # Errors
///
/// Returns an error if there is no such child.
pub fn reap(child: Pid) -> io::Result<Reaped> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: the call writes only to these two local variables.
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
    // SAFETY: the struct consists of integers, for which zeros are valid, and the call has filled
    // it.
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

/// The unit of the kernel's maximum resident memory.
const MAXRSS_BYTES: u64 = if cfg!(target_vendor = "apple") { 1 } else { 1024 };

/// The unit of the kernel's I/O counters. Systems other than Linux count calls, which is useless.
const BLOCK_BYTES: u64 = if cfg!(target_os = "linux") { 512 } else { 0 };

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}
