//! Linux: a process that shares the memory of the one that starts it until it has its program.
//!
//! This is what `vfork` does, but with a stack of its own, so that nothing of the caller's is
//! overwritten. The calling thread stands still meanwhile; other threads go on.
//!
//! What the new process does before it has its program is what is safe in another thread of this
//! one, and no more: system calls, no allocation, no lock, no panic. It must not run a signal
//! handler of this process either, since that would act on memory which is not its own: so all
//! signals are blocked from before its birth until each is handled as the system does by itself.

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

use crate::gate::{Gate, NotStarted, errno, limit};
use crate::program::Program;
use crate::reap::reap;

/// Far more than a dozen system calls need, with what a dynamic linker may add.
const STACK_BYTES: usize = 64 << 10;
/// What stacks are aligned to.
const ALIGNMENT: usize = 16;
/// The signals that a process of ours may handle; those above are for applications, and for the
/// system's library, which handles its own where threads are.
const SIGNALS: std::ops::RangeInclusive<c_int> = 1..=31;

/// What programs read. One for all: each process that is started inherits every descriptor, to
/// close it.
static NULL: OnceLock<File> = OnceLock::new();

/// How the system takes it that a signal is handled by default: zeros, of which it reads fewer.
static BY_DEFAULT: [u64; 8] = [0; 8];
/// How long the system's sets of signals are.
const SET_BYTES: libc::c_ulong = 8;

/// Starts programs, one at a time.
#[derive(Debug)]
pub struct Launcher {
    stack: Box<[MaybeUninit<u8>]>,
    null: &'static File,
    /// Those that the program is to handle as the system does by itself.
    reset: Vec<c_int>,
}

impl Launcher {
    /// A launcher whose programs ignore what this process ignores now, but for SIGPIPE, which
    /// the Rust runtime turns off for itself.
    ///
    /// # Errors
    ///
    /// Fails when `/dev/null` cannot be opened.
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

    /// Starts a program with nothing to read, its output and its errors going to `output`, after it
    /// has gone through `gate`.
    ///
    /// Returns when the program is loaded, which takes long where it comes from a slow disk.
    ///
    /// # Errors
    ///
    /// What the system says of the gate, of the program or of its directory; the process is gone
    /// then. Or that it does not allow another process.
    pub fn start(
        &mut self,
        program: &Program,
        output: BorrowedFd<'_>,
        gate: &Gate<'_>,
    ) -> Result<Child, NotStarted> {
        let (argv, env) = (program.argv.pointers(), program.env.pointers());
        let (error, is_through) = (AtomicI32::new(0), AtomicBool::new(false));
        let order = Order {
            path: program.path.first(),
            argv: argv.as_ptr(),
            env: env.as_ptr(),
            dir: program.dir.first(),
            stdin: self.null.as_raw_fd(),
            output: output.as_raw_fd(),
            reset: &self.reset,
            gate,
            is_through: &is_through,
            error: &error,
        };
        let born = give_birth(&mut self.stack, &order);
        let (pid, pidfd) = born.map_err(NotStarted::Program)?;
        match error.load(Ordering::Relaxed) {
            0 => Ok(Child { pid, pidfd }),
            code => {
                reap(pid).map_err(NotStarted::Program)?;
                let error = io::Error::from_raw_os_error(code);
                let is_through = is_through.load(Ordering::Relaxed);
                Err(if is_through { NotStarted::Program(error) } else { NotStarted::Gate(error) })
            }
        }
    }
}

/// Starts the process that carries out `order` on `stack`, and gives its id and a descriptor of
/// it once it has its program or is gone.
fn give_birth(stack: &mut [MaybeUninit<u8>], order: &Order<'_>) -> io::Result<(Pid, OwnedFd)> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd: c_int = -1;
    // Stacks grow downwards.
    let end = stack.as_mut_ptr_range().end;
    let top: *mut c_void = end.wrapping_sub(end.addr() % ALIGNMENT).cast();
    let blocked = Blocked::all();
    // SAFETY: the stack is long enough, aligned, and nobody else's while this is borrowed. What
    // `order` points to lives until the call returns, and by then the new process has its program
    // or is gone. The fifth argument is where the descriptor goes; the last two are not looked at
    // with these flags.
    let pid = unsafe {
        libc::clone(
            be_born,
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
    // SAFETY: the system has just opened it for us.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// What a new process has to know to become a program. It lives on the stack of the thread that
/// stands still meanwhile.
struct Order<'a> {
    path: *const c_char,
    argv: *const *const c_char,
    env: *const *const c_char,
    dir: *const c_char,
    stdin: RawFd,
    output: RawFd,
    reset: &'a [c_int],
    gate: &'a Gate<'a>,
    is_through: &'a AtomicBool,
    error: &'a AtomicI32,
}

/// Where a new process begins.
extern "C" fn be_born(order: *mut c_void) -> c_int {
    // SAFETY: it is the `Order` handed to `clone`, which outlives this process's share in it.
    let order = unsafe { &*order.cast::<Order<'_>>() };
    let error = match go_through(order.gate) {
        Ok(()) => {
            order.is_through.store(true, Ordering::Relaxed);
            become_program(order)
        }
        Err(error) => error,
    };
    order.error.store(error.raw_os_error(), Ordering::Relaxed);
    // Ends this process, and runs none of what is to be run at the end of the other.
    127
}

fn go_through(gate: &Gate<'_>) -> Result<(), Errno> {
    if let Some(entrance) = gate.entrance {
        // The process itself, whichever number it has where the group is seen.
        rustix::io::write(entrance, b"0")?;
    }
    limit(gate)
}

/// Returns only when it could not.
fn become_program(order: &Order<'_>) -> Errno {
    // SAFETY: these are system calls of the process's own, on descriptors, signals and texts which
    // the `Order` holds for it. The library's wrappers write to nothing but `errno`, which belongs
    // to the thread that stands still.
    unsafe {
        if libc::setpgid(0, 0) != 0 {
            return errno();
        }
        // Neither of the two is below 3: the Rust runtime sees to it that those are open.
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
    // SAFETY: it is made of integers and may be zero; the call only writes to it.
    let found = unsafe {
        let mut found: libc::sigaction = mem::zeroed();
        libc::sigaction(signal, ptr::null(), &raw mut found);
        found
    };
    found.sa_sigaction == libc::SIG_IGN
}

/// All signals of the calling thread are blocked until this is dropped.
struct Blocked {
    before: libc::sigset_t,
}

impl Blocked {
    fn all() -> Self {
        // SAFETY: both sets are ours, and zeros are good for them.
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
        // SAFETY: the set is what the system gave.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut())
        };
    }
}

/// A process that was started and was not reaped. Dropping it does neither end nor reap it.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Child {
    /// Its id, which is that of its process group, too.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end for as long as `timeout`, and says whether it has ended. It is not
    /// reaped.
    ///
    /// # Errors
    ///
    /// Fails when the system is out of memory.
    pub fn has_ended_within(&self, timeout: Duration) -> io::Result<bool> {
        let mut watched = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let limit = Timespec::try_from(timeout).ok();
        match rustix::event::poll(&mut watched, limit.as_ref()) {
            // The time that is left is not worth to be counted.
            Err(Errno::INTR) => Ok(false),
            ended => Ok(ended? > 0),
        }
    }
}
