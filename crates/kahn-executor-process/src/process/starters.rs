//! The threads on which processes are started.
//!
//! Starting a program holds up its thread until the program is loaded, so it does not happen on
//! the threads that keep the worker's heartbeat. Most tasks that a worker runs by the thousand are
//! over a moment later; so a lane waits for that moment itself, in the system, where an end costs
//! one wake-up. What takes longer goes on elsewhere, and the lane is free for the next.

use std::collections::VecDeque;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use kahn_spawn::Launcher;

use crate::limits::ReusableGroup;

/// For how long a lane waits for the end of what it has started, and when others wait for a lane:
/// then a crowd of long tasks must not start one after the other.
const EXIT_TIMEOUT: Duration = Duration::from_millis(20);
const EXIT_TIMEOUT_BUSY: Duration = Duration::from_millis(4);
/// For how long the end of the set waits for its lanes.
const END_WAIT: Duration = Duration::from_secs(1);
/// All that a lane needs, most of it for reading what a task has printed.
const STACK_BYTES: usize = 512 << 10;

/// What is done on a lane.
pub(super) type Job = Box<dyn FnOnce(&mut Starter) + Send>;

/// One thread that starts processes.
pub(super) struct Starter {
    pub(super) launcher: Launcher,
    /// Where it has stayed since its last attempt.
    pub(super) reusable_group: Option<ReusableGroup>,
    shared: Arc<Shared>,
}

impl Starter {
    /// How long to wait here for the end of what was started.
    pub(super) fn exit_timeout(&self) -> Duration {
        if self.shared.lock().jobs.is_empty() { EXIT_TIMEOUT } else { EXIT_TIMEOUT_BUSY }
    }
}

/// A set of lanes, of which there are as many as were needed at one time. Dropping it ends those
/// that have nothing to do.
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
    /// Up to `n_max` lanes, of which there must be one at least; the first is there at once.
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

    /// Does `job` on a lane, as soon as there is one.
    pub(super) fn carry_out(&self, job: Job) {
        let mut state = self.shared.lock();
        state.jobs.push_back(job);
        if state.jobs.len() <= state.n_idle {
            self.shared.has_job.notify_one();
        } else if state.n_starters < self.shared.n_max {
            state.n_starters += 1;
            drop(state);
            if let Err(error) = Shared::add_starter(&self.shared) {
                // There is one at least, which will come to it.
                tracing::warn!(%error, "no more threads that start processes");
                self.shared.lock().n_starters -= 1;
            }
        }
    }
}

impl Drop for StarterPool {
    /// A lane that stays in a control group keeps it from being removed, so they are waited for;
    /// but not for one that somehow cannot come to its end.
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
    /// A lane stays for as long as the set does: with a thread that ends, the children it started
    /// would move to the main thread, among the orphans.
    fn add_starter(shared: &Arc<Self>) -> io::Result<()> {
        let (launcher, shared) = (Launcher::new()?, Arc::clone(shared));
        let mut starter = Starter { launcher, reusable_group: None, shared };
        let work = move || {
            while let Some(job) = starter.shared.next() {
                // What a job has promised it cannot keep then, and whoever waits for it hears that.
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
            // The second has been through.
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
