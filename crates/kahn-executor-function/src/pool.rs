//! Threads for functions that block: as many as are wanted, more or fewer at any time.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

/// What the pool is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Threads that there should be.
    pub size: usize,
    /// Threads that there are; more than `size` until those that are too many have ended what
    /// they do.
    pub threads: usize,
    /// Threads that run a function.
    pub busy: usize,
    /// Functions that wait for a thread.
    pub queued: usize,
    /// Functions that have ended.
    pub completed: u64,
}

#[derive(Default)]
struct Inner {
    stats: PoolStats,
    queue: VecDeque<Job>,
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// Threads for functions that block. Dropping it lets them end after what they do.
pub struct BlockingPool {
    shared: Arc<Shared>,
}

impl BlockingPool {
    /// Starts `size` threads, at least one.
    ///
    /// # Errors
    ///
    /// When the system gives no threads.
    pub fn start(size: usize) -> std::io::Result<Self> {
        let pool = Self { shared: Arc::default() };
        pool.resize(size)?;
        Ok(pool)
    }

    /// Has `size` threads from now on, at least one. Those that are too many end after what they
    /// do.
    ///
    /// # Errors
    ///
    /// When the system gives no more threads; those that there are stay.
    pub fn resize(&self, size: usize) -> std::io::Result<()> {
        let mut inner = self.shared.lock();
        inner.stats.size = size.max(1);
        while inner.stats.threads < inner.stats.size {
            let shared = Arc::clone(&self.shared);
            std::thread::Builder::new()
                .name("kahn-function".into())
                .spawn(move || shared.work())?;
            inner.stats.threads += 1;
        }
        drop(inner);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// What it is doing.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let inner = self.shared.lock();
        PoolStats { queued: inner.queue.len(), ..inner.stats }
    }

    /// Runs `job` on a thread as soon as one is free; it must not panic.
    pub(super) fn submit(&self, job: Job) {
        self.shared.lock().queue.push_back(job);
        self.shared.changed.notify_one();
    }
}

impl Drop for BlockingPool {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
    }
}

impl fmt::Debug for BlockingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BlockingPool").field(&self.stats()).finish()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of one thread.
    fn work(&self) {
        let mut inner = self.lock();
        loop {
            if inner.is_closed || inner.stats.threads > inner.stats.size {
                inner.stats.threads -= 1;
                return;
            }
            let Some(job) = inner.queue.pop_front() else {
                inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            inner.stats.busy += 1;
            drop(inner);
            job();
            inner = self.lock();
            inner.stats.busy -= 1;
            inner.stats.completed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_pool_grows_and_shrinks_while_it_works() {
        let pool = BlockingPool::start(1).unwrap();
        let (done, ended) = mpsc::channel();
        let (gate, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let submit = || {
            let (done, wait) = (done.clone(), Arc::clone(&wait));
            pool.submit(Box::new(move || {
                let _ = wait.lock().unwrap().recv();
                done.send(()).unwrap();
            }));
        };
        (0..3).for_each(|_| submit());
        pool.resize(3).unwrap();
        assert_eq!((pool.stats().size, pool.stats().threads), (3, 3));
        pool.resize(1).unwrap();
        (0..3).for_each(|_| gate.send(()).unwrap());
        (0..3).for_each(|_| ended.recv().unwrap());
        while pool.stats().threads > 1 || pool.stats().completed < 3 {
            std::thread::yield_now();
        }
        assert_eq!(pool.stats(), PoolStats { size: 1, threads: 1, completed: 3, ..pool.stats() });
    }
}
