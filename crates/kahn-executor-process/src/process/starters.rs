//! The threads that start processes.
//!
//! Starting a program blocks its thread until the program is loaded, so it must not happen on the
//! threads that send heartbeats. Most tasks end shortly after their start, so a starter thread
//! first waits for that end itself, with a system call that takes a single wake-up. A task that
//! runs for longer, or prints so much that its pipe fills up, moves to the runtime, and the thread
//! starts the next one.

use std::collections::VecDeque;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use kahn_spawn::Launcher;

use crate::limits::ReusableGroup;

/// How long a starter thread waits for a process to end. The timeout is shorter while jobs are
/// waiting, so that many long tasks do not delay each other's start.
const EXIT_TIMEOUT: Duration = Duration::from_millis(20);
const EXIT_TIMEOUT_BUSY: Duration = Duration::from_millis(4);
/// How long dropping the pool waits for its threads.
const END_WAIT: Duration = Duration::from_secs(1);
/// The stack size of a starter thread. Most of it is for reading a task's output.
const STACK_BYTES: usize = 512 << 10;

/// A job for a starter thread.
pub(super) type Job = Box<dyn FnOnce(&mut Starter) + Send>;

/// A thread that starts processes.
pub(super) struct Starter {
    pub(super) launcher: Launcher,
    /// The group that the thread has been a member of since its previous attempt.
    pub(super) reusable_group: Option<ReusableGroup>,
    shared: Arc<Shared>,
}

impl Starter {
    /// Returns how long to wait on this thread for the end of a process.
    pub(super) fn exit_timeout(&self) -> Duration {
        if self.shared.lock().jobs.is_empty() { EXIT_TIMEOUT } else { EXIT_TIMEOUT_BUSY }
    }
}

/// A pool of starter threads that grows on demand. Dropping it ends the threads that have no job.
#[derive(Debug)]
pub(super) struct StarterPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    n_max: usize,
    state: Mutex<State>,
    has_job: Condvar,
    is_left: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    n_starters: usize,
    n_idle: usize,
    is_over: bool,
}

impl StarterPool {
    /// Creates a pool of at most `n_max` threads, which must not be 0. The first thread is started
    /// immediately.
    pub(super) fn start(n_max: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            n_max,
            state: Mutex::default(),
            has_job: Condvar::new(),
            is_left: Condvar::new(),
        });
        shared.lock().n_starters = 1;
        Shared::add_starter(&shared)?;
        Ok(Self { shared })
    }

    /// Runs `job` on a thread as soon as one is free.
    pub(super) fn carry_out(&self, job: Job) {
        let mut state = self.shared.lock();
        state.jobs.push_back(job);
        if state.jobs.len() <= state.n_idle {
            self.shared.has_job.notify_one();
        } else if state.n_starters < self.shared.n_max {
            state.n_starters += 1;
            drop(state);
            if let Err(error) = Shared::add_starter(&self.shared) {
                // An existing thread runs the job; there is always at least one.
                tracing::warn!(%error, "cannot start another thread that starts processes");
                self.shared.lock().n_starters -= 1;
            }
        }
    }
}

impl Drop for StarterPool {
    /// Waits for the threads, because a member thread keeps its control group from being removed.
    /// The wait is bounded in case a thread is stuck.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_over = true;
        self.shared.has_job.notify_all();
        let has_starters = |state: &mut State| state.n_starters > 0;
        let left = self.shared.is_left.wait_timeout_while(state, END_WAIT, has_starters);
        drop(left.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Shared {
    /// Adds a thread that lives as long as the pool: if it ended, its children would be handed to
    /// the main thread, where they would be mistaken for orphans.
    fn add_starter(shared: &Arc<Self>) -> io::Result<()> {
        let (launcher, shared) = (Launcher::new()?, Arc::clone(shared));
        let mut starter = Starter { launcher, reusable_group: None, shared };
        let work = move || {
            while let Some(job) = starter.shared.next() {
                // The panic drops the job's reply channel, which tells the caller.
                if panic::catch_unwind(AssertUnwindSafe(|| job(&mut starter))).is_err() {
                    tracing::error!("an attempt panicked on its starter thread");
                }
            }
            drop(starter.reusable_group.take());
            starter.shared.leave();
        };
        thread::Builder::new()
            .name("kahn-process".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(work)
            .map(drop)
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.is_over {
                return None;
            }
            state.n_idle += 1;
            state = self.has_job.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.n_idle -= 1;
        }
    }

    fn leave(&self) {
        self.lock().n_starters -= 1;
        self.is_left.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("jobs", &self.jobs.len())
            .field("n_starters", &self.n_starters)
            .field("n_idle", &self.n_idle)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn no_more_jobs_run_at_one_time_than_the_maximum_of_threads() {
        let starters = StarterPool::start(3).unwrap();
        let (begun, begins) = sync_channel(8);
        let mut gates = Vec::new();
        for number in 0..4 {
            let (open, gate) = sync_channel::<()>(1);
            gates.push(open);
            let begun = begun.clone();
            starters.carry_out(Box::new(move |_| {
                begun.send(number).unwrap();
                gate.recv_timeout(LONG).unwrap();
            }));
        }
        let mut first: Vec<i32> = (0..3).map(|_| begins.recv_timeout(LONG).unwrap()).collect();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2]);
        assert!(begins.try_recv().is_err());
        gates[1].send(()).unwrap();
        assert_eq!(begins.recv_timeout(LONG).unwrap(), 3);
        for gate in gates {
            // The second job has ended already, so its send may fail.
            let _ = gate.send(());
        }
    }

    #[test]
    fn a_job_that_panics_does_not_end_its_thread() {
        let starters = StarterPool::start(1).unwrap();
        starters.carry_out(Box::new(|_| panic!("as a test wants")));
        let (done, is_done) = sync_channel(1);
        starters.carry_out(Box::new(move |_| done.send(()).unwrap()));
        assert!(is_done.recv_timeout(LONG).is_ok());
    }

    #[test]
    fn the_exit_timeout_is_shorter_while_jobs_wait() {
        let starters = StarterPool::start(1).unwrap();
        let (say, said) = sync_channel(2);
        let (open, gate) = sync_channel::<()>(1);
        let alone = say.clone();
        starters.carry_out(Box::new(move |starter| {
            gate.recv_timeout(LONG).unwrap();
            alone.send(starter.exit_timeout()).unwrap();
        }));
        starters.carry_out(Box::new(move |starter| say.send(starter.exit_timeout()).unwrap()));
        open.send(()).unwrap();
        assert_eq!(said.recv_timeout(LONG).unwrap(), EXIT_TIMEOUT_BUSY);
        assert_eq!(said.recv_timeout(LONG).unwrap(), EXIT_TIMEOUT);
    }
}
