//! The threads on which processes are started and looked after.
//!
//! Starting a program holds up its thread until the program is loaded, so it does not happen on
//! the threads that keep the worker's heartbeat. Handing only the start to another thread and
//! back would cost several wake-ups for each attempt; so an attempt lives on one thread, its
//! lane, from start to report. A program that loads slowly delays what shares its lane, and
//! nothing else.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Threads of each lane for slow file access.
const N_FILE_THREADS: usize = 8;

/// A set of lanes. Dropping it ends them, and kills the attempts on them.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Vec<Handle>,
    next: AtomicUsize,
    _end_on_drop: DropGuard,
}

impl Lanes {
    /// Starts `n_lanes` threads, of which there must be one at least.
    pub(super) fn start(n_lanes: usize) -> io::Result<Self> {
        let end = CancellationToken::new();
        let lanes = (0..n_lanes).map(|_| start_lane(end.clone())).collect::<io::Result<_>>()?;
        Ok(Self { lanes, next: AtomicUsize::new(0), _end_on_drop: end.drop_guard() })
    }

    /// Carries out a future on the next lane; there it may block for a short time.
    pub(super) fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.lanes[turn % self.lanes.len()].spawn(future)
    }
}

fn start_lane(end: CancellationToken) -> io::Result<Handle> {
    let runtime =
        Builder::new_current_thread().enable_all().max_blocking_threads(N_FILE_THREADS).build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("kahn-process".to_owned())
        .spawn(move || runtime.block_on(end.cancelled()))?;
    Ok(handle)
}
