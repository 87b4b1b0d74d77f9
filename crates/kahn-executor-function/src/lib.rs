//! Executes `function`: functions of the program that embeds the worker.
//!
//! Functions are registered by name before the worker starts. Asynchronous functions run on the
//! worker's runtime, up to a configured concurrency. Blocking functions run on a separate thread
//! pool. A function that panics fails only its own attempt.

mod context;
mod mute;
mod pool;
mod registry;

use std::time::Duration;

use async_trait::async_trait;
use kahn_model::{Action, ActionKind, Cause, CauseKind, Failure, Outputs, Usage};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use kahn_executor::failure;
use kahn_executor::outputs_of_result;
use kahn_executor::{Assignment, Control, Executor, Report};

pub use context::FunctionContext;
pub use pool::{BlockingPool, PoolStats};
pub use registry::Functions;

/// Operator settings for functions: the section `[worker.functions]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FunctionSettings {
    /// The maximum number of asynchronous functions that run concurrently.
    pub concurrency: usize,
    /// The number of threads for blocking functions. The default is the number of CPUs.
    pub threads: Option<usize>,
}

impl Default for FunctionSettings {
    fn default() -> Self {
        Self { concurrency: 1024, threads: None }
    }
}

/// Executes `function`.
#[derive(Debug)]
pub struct FunctionExecutor {
    functions: Functions,
    pool: BlockingPool,
    slots: Semaphore,
    grace: Duration,
}

impl FunctionExecutor {
    /// Creates an executor. `grace` is the time that a function has to end after a stop request
    /// before it is dropped. A blocking function cannot be dropped and is waited for.
    ///
    /// # Errors
    ///
    /// Returns an error if threads cannot be started.
    pub fn open(
        functions: Functions,
        settings: &FunctionSettings,
        grace: Duration,
    ) -> std::io::Result<Self> {
        mute::install();
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let pool = BlockingPool::start(settings.threads.unwrap_or_else(processors))?;
        let slots = Semaphore::new(settings.concurrency.clamp(1, Semaphore::MAX_PERMITS));
        Ok(Self { functions, pool, slots, grace })
    }

    /// Returns the thread pool for blocking functions.
    #[must_use]
    pub fn pool(&self) -> &BlockingPool {
        &self.pool
    }

    async fn call(&self, assignment: &Assignment, control: &mut Control) -> Outcome {
        let Action::Function(call) = &assignment.work.action else {
            return Err(infeasible("this executor calls functions only"));
        };
        let Some(function) = self.functions.find(&call.name) else {
            return Err(infeasible(&format!("this worker has no function `{}`", call.name)));
        };
        let input = serde_json::from_str(call.input.as_str())
            .map_err(|error| exception(&format!("the input is not JSON: {error}")))?;
        let slot = tokio::select! {
            biased;
            reason = control.stop_requested() => return Err(Failure::of(reason)),
            slot = self.slots.acquire() => slot.expect("invariant: never closed"),
        };
        control.started();
        let context = FunctionContext::new(assignment);
        let cancelled = context.cancellation().clone();
        let mut running = function.call(context, input, &self.pool);
        let ended = tokio::select! {
            biased;
            ended = &mut running => ended,
            reason = control.stop_or_timeout(assignment.timeouts.run) => {
                cancelled.cancel();
                let grace = assignment.timeouts.grace.unwrap_or(self.grace);
                if function.is_blocking() {
                    // A blocking function cannot be interrupted.
                    drop(running.await);
                } else {
                    drop(tokio::time::timeout(grace, running).await);
                }
                return Err(failure::stopped(reason, false, assignment.timeouts.run));
            }
        };
        drop(slot);
        outputs_of_result(&ended?).map_err(|error| exception(&error.to_string()))
    }
}

type Outcome = Result<Outputs, Failure>;

fn exception(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::Exception), message)
}

fn infeasible(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::Infeasible), message)
}

#[async_trait]
impl Executor for FunctionExecutor {
    fn kind(&self) -> ActionKind {
        ActionKind::Function
    }

    async fn run(&self, assignment: Assignment, mut control: Control) -> Report {
        let started_at = Instant::now();
        let outcome = self.call(&assignment, &mut control).await;
        assignment.logs.seal();
        Report { outcome, usage: Usage { elapsed: started_at.elapsed(), ..Usage::default() } }
    }
}
