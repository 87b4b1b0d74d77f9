//! Executes `python`: calls of Python functions in warm interpreters.
//!
//! Interpreters are processes that execute one call at a time and then wait for the next. They are
//! pooled by environment: the interpreter program, the working directory, and the variables that
//! Python reads only at startup. A call takes one frame in each direction. Its output goes through
//! the pipe of its interpreter and is in that pipe before the reply arrives, so the pipe's content
//! belongs to the current call.
//!
//! A call may leave modules, globals and threads behind in its interpreter; keeping these is the
//! purpose of a warm interpreter. Processes, files, variables, the working directory and redirected
//! streams are restored after each call. If that fails, the interpreter is ended.

mod call;
mod connection;
mod interpreter;
mod memory_stats;
mod output;
mod pool;
mod request;
mod start;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kahn_model::{Action, ActionKind, Cause, CauseKind, Failure};
use kahn_runtime::human_duration;
use serde::{Deserialize, Serialize};

use kahn_executor::{Assignment, Control, Executor, Report};

use crate::scratch::Scratch;
use crate::{OpenError, ProcessSettings, trees};
use pool::Pool;
use request::Request;
use start::Host;

/// Settings for Python.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PythonSettings {
    /// The interpreter of calls that name none: a path, or a name looked up in the PATH of tasks.
    /// If it does not exist, the worker does not support Python.
    pub interpreter: String,
    /// The maximum number of interpreters, at least 1. The default is the number of CPUs.
    pub interpreters_max: Option<u32>,
    /// The number of calls after which an interpreter is replaced, at least 1.
    pub calls_max: u32,
    /// An interpreter is replaced if its resident memory has grown by more than this many bytes
    /// since its first call.
    pub memory_growth_bytes: u64,
    /// How long an interpreter may be idle before it is ended.
    #[serde(with = "human_duration")]
    pub idle_limit: Duration,
    /// The timeout for starting an interpreter.
    #[serde(with = "human_duration")]
    pub start_limit: Duration,
}

impl Default for PythonSettings {
    fn default() -> Self {
        Self {
            interpreter: "python3".to_owned(),
            interpreters_max: None,
            calls_max: 10_000,
            memory_growth_bytes: 512 << 20,
            idle_limit: Duration::from_secs(300),
            start_limit: Duration::from_secs(60),
        }
    }
}

/// Executes `python`. Dropping it kills its interpreters without waiting for their death. If the
/// worker's process dies, the kernel kills them.
#[derive(Clone, Debug)]
pub struct PythonExecutor {
    pool: Arc<Pool>,
}

impl PythonExecutor {
    /// Opens an executor, or returns `None` if the default interpreter does not exist. The scratch
    /// directory in `process_settings` must not be shared with another executor.
    ///
    /// Kills the interpreters and removes the files left by an earlier boot of this worker. Like
    /// [`ProcessExecutor::open`](crate::ProcessExecutor::open), it makes this process adopt
    /// orphans.
    ///
    /// # Errors
    ///
    /// Returns an [`OpenError`] if the executor cannot be set up.
    pub fn open(
        settings: PythonSettings,
        process_settings: ProcessSettings,
    ) -> Result<Option<Self>, OpenError> {
        let found = start::find_program(&settings.interpreter, &process_settings.env);
        let Some(interpreter) = found else {
            let interpreter = &settings.interpreter;
            tracing::info!(interpreter, "interpreter not found; this worker has no Python");
            return Ok(None);
        };
        tracing::debug!(interpreter = %interpreter.display(), "this worker has Python");
        kahn_platform::adopt_orphans().map_err(|source| OpenError::Adopt { source })?;
        let scratch = Arc::new(Scratch::open(&process_settings.scratch_dir)?);
        let n_killed = trees::kill_leftovers(scratch.root());
        if n_killed > 0 {
            tracing::warn!(n_killed, "killed interpreters that an earlier boot left");
        }
        let host = Host::open(settings, process_settings, scratch)?;
        Ok(Some(Self { pool: Arc::new(Pool::new(host)) }))
    }
}

#[async_trait]
impl Executor for PythonExecutor {
    fn kind(&self) -> ActionKind {
        ActionKind::Python
    }

    /// See the trait. Dropping the returned future kills the interpreter without grace in the
    /// background.
    async fn run(&self, assignment: Assignment, control: Control) -> Report {
        self.pool.spawn_maintenance();
        let logs = Arc::clone(&assignment.logs);
        let report = self.carry_out(assignment, control).await;
        logs.seal();
        report
    }
}

impl PythonExecutor {
    async fn carry_out(&self, assignment: Assignment, mut control: Control) -> Report {
        let Action::Python(call) = &assignment.work.action else {
            let failure = Failure::new(
                Cause::of(CauseKind::Infeasible),
                "this executor carries out `python` only",
            );
            return Report::not_run(failure);
        };
        let request = match Request::new(call, &assignment) {
            Ok(request) => request,
            Err(failure) => return Report::not_run(failure),
        };
        let ready = tokio::select! {
            biased;
            reason = control.stop_requested() => Err(Failure::of(reason)),
            ready = self.pool.check_out(&request.key, &assignment.resources) => ready,
        };
        match ready {
            Ok(checked_out) => call::carry_out(checked_out, request, assignment, control).await,
            Err(failure) => Report::not_run(failure),
        }
    }
}
