//! Starts a program as the leader of its own process group, and reaps it.
//!
//! For a worker that runs thousands of short programs per second, starting them is the largest cost
//! of its own. `posix_spawn`, the fastest way in the standard library, maps and unmaps a stack for
//! each start, which causes TLB shootdowns on all CPUs, and sets the disposition of each of 64
//! signals twice. The [`Launcher`] of a thread reuses one stack and does only once what need not be
//! repeated.
//!
//! This is the only crate with unsafe code, since the code between the creation of a process and
//! its program cannot be written without. On other systems than Linux the standard library is used.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod portable;
mod pre_exec_limits;
mod program;
mod reap;

#[cfg(target_os = "linux")]
pub use linux::{Child, Launcher};
#[cfg(not(target_os = "linux"))]
pub use portable::{Child, Launcher};
pub use pre_exec_limits::{NotStarted, PreExecLimits};
pub use program::{Program, WithNul};
pub use reap::{Reaped, reap};
