//! Starts a program as the leader of its own process group, and reaps it.
//!
//! A worker that runs thousands of short programs a second spends more on starting them than on
//! anything else of its own. `posix_spawn`, the fastest that the standard library offers, maps a
//! stack for each start and takes it away again, which has every other processor flush what it
//! knows of the worker's memory, and sets the handling of each of 64 signals twice. The
//! [`Launcher`] of a thread keeps one stack for all its starts and does once what need not be done
//! again.
//!
//! This is the one crate of the project with unsafe code: what comes between the birth of a
//! process and its program cannot be said without. Elsewhere than on Linux the standard library
//! does it all.

mod gate;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod portable;
mod program;
mod reap;

pub use gate::{Gate, NotStarted};
#[cfg(target_os = "linux")]
pub use linux::{Child, Launcher};
#[cfg(not(target_os = "linux"))]
pub use portable::{Child, Launcher};
pub use program::{Program, WithNul};
pub use reap::{Reaped, reap};
