//! A thread pool for blocking functions, which can be resized at any time.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

/// A snapshot of the pool's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// The configured number of threads.
    pub size: usize,
    /// The number of threads, which exceeds `size` until surplus threads have finished their
    /// function.
    pub threads: usize,
    /// The number of threads that run a function.
    pub busy: usize,
    /// The number of functions that wait for a thread.
    pub queued: usize,
    /// The number of functions that have ended.
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

/// A thread pool for blocking functions. When it is dropped, its threads end after their current
/// function.
pub struct BlockingPool {
    shared: Arc<Shared>,
}

impl BlockingPool {
    /// Starts `size` threads, but at least one.
    ///
    /// # Errors
    ///
    /// Returns an error if threads cannot be started.
    pub fn start(size: usize) -> std::io::Result<Self> {
        let pool = Self { shared: Arc::default() };
        pool.resize(size)?;
        Ok(pool)
    }

    /// Sets the number of threads, at least one. Surplus threads end after their current function.
    ///
    /// # Errors
    ///
    /// Returns an error if further threads cannot be started. Existing ones stay.
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

    /// Returns the state of the pool.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let inner = self.shared.lock();
        PoolStats { queued: inner.queue.len(), ..inner.stats }
    }

    /// Runs `job` on a thread as soon as one is free. The job must not panic.
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

    /// The main loop of a thread.
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
