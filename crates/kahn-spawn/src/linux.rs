//! Linux: creates a process that shares its parent's memory until it executes its program.
//!
//! This is what `vfork` does, but with a separate stack, so that the caller's stack is not
//! overwritten. The calling thread is suspended meanwhile; other threads continue.
//!
//! Before it executes its program, the new process may only do what would be safe in another thread
//! of this process: system calls, but no allocations, locks or panics. It must not run signal
//! handlers of this process, because they would act on its parent's memory. Therefore all signals
//! are blocked until their dispositions have been reset.

use std::ffi::{c_char, c_int, c_void};
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::pre_exec_limits::{NotStarted, PreExecLimits, errno, limit};
use crate::program::Program;
use crate::reap::reap;

/// Much more than the system calls need, including the work of a dynamic linker.
const STACK_BYTES: usize = 64 << 10;
/// The alignment of stacks.
const ALIGNMENT: usize = 16;
/// The signals that this process may handle. Those above are reserved for applications and for the
/// C library, which handles its own only in processes with threads.
const SIGNALS: std::ops::RangeInclusive<c_int> = 1..=31;

/// The standard input of all programs. Shared, because each new process inherits every descriptor
/// and has to close it.
static NULL: OnceLock<File> = OnceLock::new();

/// The kernel's representation of the default disposition: zeros, of which it reads fewer.
static BY_DEFAULT: [u64; 8] = [0; 8];
/// The size of the kernel's signal sets.
const SET_BYTES: libc::c_ulong = 8;

/// Starts programs, one at a time.
#[derive(Debug)]
pub struct Launcher {
    stack: Box<[MaybeUninit<u8>]>,
    null: &'static File,
    /// The signals to reset to their default disposition.
    reset: Vec<c_int>,
}

impl Launcher {
    /// Creates a launcher. Its programs ignore the signals that this process ignores now, except
    /// SIGPIPE, which the Rust runtime ignores.
    ///
    /// # Errors
    ///
    /// Returns an error if `/dev/null` cannot be opened.
    pub fn new() -> io::Result<Self> {
        let null = match NULL.get() {
            Some(null) => null,
            None => {
                let null = OpenOptions::new().read(true).open("/dev/null")?;
                NULL.get_or_init(|| null)
            }
        };
        let stack = vec![MaybeUninit::uninit(); STACK_BYTES].into_boxed_slice();
        let is_kept = |signal: &c_int| *signal != libc::SIGPIPE && is_ignored(*signal);
        let cannot_be_set = [libc::SIGKILL, libc::SIGSTOP];
        let reset = SIGNALS.filter(|signal| !cannot_be_set.contains(signal) && !is_kept(signal));
        Ok(Self { stack, null, reset: reset.collect() })
    }

    /// Starts a program after it has applied `limits`. Its standard input is empty, and standard
    /// output and error are `output`.
    ///
    /// Returns when the program is loaded, which takes long on a slow disk.
    ///
    /// # Errors
    ///
    /// Returns the OS error of applying the limits, of the program or of its directory, in which
    /// case the process is gone, or of creating the process.
    pub fn start(
        &mut self,
        program: &Program,
        output: BorrowedFd<'_>,
        limits: &PreExecLimits<'_>,
    ) -> Result<Child, NotStarted> {
        let (argv, env) = (program.argv.pointers(), program.env.pointers());
        let (error, is_limited) = (AtomicI32::new(0), AtomicBool::new(false));
        let order = Order {
            path: program.path.first(),
            argv: argv.as_ptr(),
            env: env.as_ptr(),
            dir: program.dir.first(),
            stdin: self.null.as_raw_fd(),
            output: output.as_raw_fd(),
            reset: &self.reset,
            limits,
            is_limited: &is_limited,
            error: &error,
        };
        let cloned = clone_process(&mut self.stack, &order);
        let (pid, pidfd) = cloned.map_err(NotStarted::Program)?;
        match error.load(Ordering::Relaxed) {
            0 => Ok(Child { pid, pidfd }),
            code => {
                reap(pid).map_err(NotStarted::Program)?;
                let error = io::Error::from_raw_os_error(code);
                let is_limited = is_limited.load(Ordering::Relaxed);
                Err(if is_limited { NotStarted::Program(error) } else { NotStarted::Limits(error) })
            }
        }
    }
}

/// Creates a process that executes `order` on `stack`. Returns its id and pidfd once it has
/// executed its program or is gone.
fn clone_process(stack: &mut [MaybeUninit<u8>], order: &Order<'_>) -> io::Result<(Pid, OwnedFd)> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd: c_int = -1;
    // Stacks grow downwards.
    let end = stack.as_mut_ptr_range().end;
    let top: *mut c_void = end.wrapping_sub(end.addr() % ALIGNMENT).cast();
    let blocked = Blocked::all();
    // SAFETY: the stack is large enough, aligned, and exclusively borrowed. `order` outlives the
    // call, and when that returns the new process has executed its program or is gone. The fifth
    // argument receives the pidfd; the last two are unused with these flags.
    let pid = unsafe {
        libc::clone(
            child_main,
            top,
            flags,
            ptr::from_ref(order).cast_mut().cast(),
            &raw mut pidfd,
            ptr::null_mut::<c_void>(),
            ptr::null_mut::<c_int>(),
        )
    };
    let failed = io::Error::last_os_error();
    drop(blocked);
    #[expect(clippy::disallowed_methods, reason = "only positive numbers get here")]
    let Some(pid) = (pid > 0).then_some(pid).and_then(Pid::from_raw) else { return Err(failed) };
    // SAFETY: the descriptor was just opened by the kernel and has no other owner.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// What a new process needs to execute its program. Lives on the stack of the suspended thread.
struct Order<'a> {
    path: *const c_char,
    argv: *const *const c_char,
    env: *const *const c_char,
    dir: *const c_char,
    stdin: RawFd,
    output: RawFd,
    reset: &'a [c_int],
    limits: &'a PreExecLimits<'a>,
    is_limited: &'a AtomicBool,
    error: &'a AtomicI32,
}

/// The entry point of a new process.
extern "C" fn child_main(order: *mut c_void) -> c_int {
    // SAFETY: this is the `Order` passed to `clone`, which outlives its use by this process.
    let order = unsafe { &*order.cast::<Order<'_>>() };
    let error = match apply_limits(order.limits) {
        Ok(()) => {
            order.is_limited.store(true, Ordering::Relaxed);
            become_program(order)
        }
        Err(error) => error,
    };
    order.error.store(error.raw_os_error(), Ordering::Relaxed);
    // Ends this process without running the exit handlers of its parent.
    127
}

fn apply_limits(limits: &PreExecLimits<'_>) -> Result<(), Errno> {
    if let Some(cgroup_procs) = limits.cgroup_procs {
        // 0 is the process itself, independently of PID namespaces.
        rustix::io::write(cgroup_procs, b"0")?;
    }
    limit(limits)
}

/// Executes the program. Returns only on failure.
fn become_program(order: &Order<'_>) -> Errno {
    // SAFETY: these system calls affect only this process. Their arguments are descriptors, signals
    // and strings kept alive by `order`. The library's wrappers write only to `errno`, which
    // belongs to the suspended thread.
    unsafe {
        if libc::setpgid(0, 0) != 0 {
            return errno();
        }
        // Both descriptors are above 2, since the Rust runtime ensures that 0 to 2 are open.
        for (from, to) in [(order.stdin, 0), (order.output, 1), (order.output, 2)] {
            if libc::dup2(from, to) == -1 {
                return errno();
            }
        }
        if libc::chdir(order.dir) != 0 {
            return errno();
        }
        for signal in order.reset {
            // The library's wrapper may take a lock.
            let signal = libc::c_long::from(*signal);
            let none = ptr::null_mut::<c_void>();
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const BY_DEFAULT, none, SET_BYTES);
        }
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::execve(order.path, order.argv, order.env);
        errno()
    }
}

fn is_ignored(signal: c_int) -> bool {
    // SAFETY: the struct consists of integers, for which zeros are valid; the call only writes to
    // it.
    let found = unsafe {
        let mut found: libc::sigaction = mem::zeroed();
        libc::sigaction(signal, ptr::null(), &raw mut found);
        found
    };
    found.sa_sigaction == libc::SIG_IGN
}

/// Blocks all signals of the calling thread until it is dropped.
struct Blocked {
    before: libc::sigset_t,
}

impl Blocked {
    fn all() -> Self {
        // SAFETY: both sets are local variables, for which zeros are valid.
        unsafe {
            let mut all: libc::sigset_t = mem::zeroed();
            let mut before: libc::sigset_t = mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before);
            Self { before }
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the set was returned by the kernel.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut())
        };
    }
}

/// A started process that has not been reaped. Dropping it neither ends nor reaps it.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Child {
    /// Returns its id, which is also that of its process group.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end for at most `timeout` and returns whether it has ended. Does not reap it.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel is out of memory.
    pub fn has_ended_within(&self, timeout: Duration) -> io::Result<bool> {
        let mut watched = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let limit = Timespec::try_from(timeout).ok();
        match rustix::event::poll(&mut watched, limit.as_ref()) {
            // The remaining time is short enough to be ignored.
            Err(Errno::INTR) => Ok(false),
            ended => Ok(ended? > 0),
        }
    }

    /// Waits until it has ended or `pipe` is readable, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel is out of memory.
    pub fn wait_for_end_or_input(&self, pipe: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
        let mut watched =
            [PollFd::new(&self.pidfd, PollFlags::IN), PollFd::new(&pipe, PollFlags::IN)];
        let limit = Timespec::try_from(timeout).ok();
        match rustix::event::poll(&mut watched, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
