//! The pool of idle interpreters, and the limit on their number.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use kahn_executor::failure::worker_fault;
use kahn_model::{Cause, CauseKind, Failure, Resource, Resources};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::interpreter::{Interpreter, ProcessExit};
use super::request::Key;
use super::start::Host;

/// The bounds of the interval between checks of idle interpreters, which depends on the idle limit.
const LOOK_PERIOD_MAX: Duration = Duration::from_secs(5);
const LOOK_PERIOD_MIN: Duration = Duration::from_millis(20);

/// The interpreters of a worker.
#[derive(Debug)]
pub(super) struct Pool {
    host: Host,
    max: usize,
    /// One permit for each call that may run.
    permits: Arc<Semaphore>,
    /// Idle interpreters, with the most recently used one last.
    idle: Mutex<Vec<Interpreter>>,
    is_maintained: AtomicBool,
}

/// An interpreter checked out for one call, with the permit to run it.
#[derive(Debug)]
pub(super) struct CheckedOut {
    pub(super) interpreter: Interpreter,
    pool: Arc<Pool>,
    permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(host: Host) -> Self {
        let n_cpus = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let wanted = host.settings.interpreters_max.map(|max| usize::try_from(max).unwrap_or(1));
        let max = wanted.unwrap_or_else(n_cpus).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            host,
            max,
            permits: Arc::new(Semaphore::new(max)),
            idle: Mutex::default(),
            is_maintained: AtomicBool::new(false),
        }
    }

    /// Waits for a permit, and returns a warm interpreter or else a new one.
    pub(super) async fn check_out(
        self: &Arc<Self>,
        key: &Key,
        resources: &Resources,
    ) -> Result<CheckedOut, Failure> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| worker_fault("the worker no longer runs Python"))?;
        let interpreter = loop {
            match self.take_idle(key) {
                None => {
                    let mut interpreter = self.host.start(key).await?;
                    if interpreter.apply_limits(resources) {
                        break interpreter;
                    }
                    interpreter.retire();
                    return Err(too_little_memory(resources));
                }
                Some(mut interpreter) => {
                    let is_healthy = interpreter.is_healthy().await;
                    if is_healthy && interpreter.apply_limits(resources) {
                        break interpreter;
                    }
                    if !is_healthy {
                        tracing::info!("an idle interpreter has died or does not answer");
                    }
                    interpreter.retire();
                }
            }
        };
        Ok(CheckedOut { interpreter, pool: Arc::clone(self), permit })
    }

    /// Removes an idle interpreter with this key from the pool. If there is none, retires another
    /// one if necessary to make room for a new one.
    fn take_idle(&self, key: &Key) -> Option<Interpreter> {
        let mut idle = self.idle();
        if let Some(position) = idle.iter().rposition(|interpreter| *interpreter.key == *key) {
            return Some(idle.remove(position));
        }
        let n_busy = self.max - self.permits.available_permits().min(self.max);
        if n_busy + idle.len() > self.max && !idle.is_empty() {
            idle.remove(0).retire();
        }
        None
    }

    fn put_back(&self, mut interpreter: Interpreter) {
        interpreter.idle_since = Instant::now();
        self.idle().push(interpreter);
    }

    /// Starts the background task that ends stale interpreters, unless it is running.
    pub(super) fn spawn_maintenance(self: &Arc<Self>) {
        if !self.is_maintained.load(Ordering::Relaxed)
            && !self.is_maintained.swap(true, Ordering::Relaxed)
        {
            let period = self.host.settings.idle_limit / 4;
            let period = period.clamp(LOOK_PERIOD_MIN, LOOK_PERIOD_MAX);
            tokio::spawn(maintain(Arc::downgrade(self), period));
        }
    }

    /// Ends interpreters that were idle for too long, and reaps those that died.
    fn end_stale(&self) {
        let limit = self.host.settings.idle_limit;
        let is_stale = |interpreter: &mut Interpreter| {
            interpreter.idle_since.elapsed() >= limit || interpreter.is_dead()
        };
        let stale: Vec<Interpreter> = self.idle().extract_if(.., is_stale).collect();
        stale.into_iter().for_each(Interpreter::retire);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Interpreter>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CheckedOut {
    /// Returns the delay between SIGTERM and SIGKILL for tasks that do not set one.
    pub(super) fn grace(&self) -> Duration {
        self.pool.host.grace
    }

    /// Kills the interpreter and waits until all its descendants are dead. Returns the permit,
    /// which allows the next call once it is dropped.
    pub(super) async fn kill(self) -> (io::Result<ProcessExit>, OwnedSemaphorePermit) {
        (self.interpreter.kill().await, self.permit)
    }

    /// Returns the interpreter to the pool after a call, unless it must be replaced.
    pub(super) async fn return_to_pool(self) {
        let Self { interpreter, pool, permit } = self;
        let settings = &pool.host.settings;
        let is_old = interpreter.n_calls >= settings.calls_max.max(1);
        let is_fat = interpreter.memory_stats.growth() > settings.memory_growth_bytes;
        match interpreter.clear_scratch().await {
            Ok(()) if !is_old && !is_fat => pool.put_back(interpreter),
            Ok(()) => interpreter.retire(),
            Err(error) => {
                tracing::warn!(%error, "scratch directory of an interpreter cannot be emptied");
                interpreter.retire();
            }
        }
        drop(permit);
    }
}

fn too_little_memory(resources: &Resources) -> Failure {
    let memory = resources.get(&Resource::Memory);
    let message = format!("an interpreter alone has more memory than {memory} bytes");
    Failure::new(Cause::of(CauseKind::OutOfMemory), &message)
}

async fn maintain(pool: Weak<Pool>, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.end_stale();
    }
}
