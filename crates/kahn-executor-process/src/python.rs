//! `python`: a function of Python, in an interpreter that is kept warm.
//!
//! Interpreters are processes that carry out one call at a time and then wait for the next.
//! There is a set of them for each environment: the interpreter, the working directory, and the
//! variables that an interpreter reads only at its start. A call costs one frame each way. What
//! it prints goes through the one pipe that its interpreter has for good, and is in that pipe
//! when the reply comes, so that a look into the pipe tells whose it is.
//!
//! A call may leave modules, globals and threads behind in its interpreter, which is what warm
//! means. It leaves no processes, files, variables, directory or redirected streams: those are
//! put back, and where that cannot be done the interpreter is ended.

mod call;
mod connection;
mod interpreter;
mod output;
mod pool;
mod request;
mod start;
mod vitals;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kahn_model::{Action, ActionKind, Cause, CauseKind, Failure, Usage};
use kahn_runtime::human_duration;
use serde::{Deserialize, Serialize};

use kahn_executor::{Assignment, Control, Executor, Report};

use crate::scratch::Scratch;
use crate::{OpenError, ProcessSettings, trees};
use pool::Pool;
use request::Request;
use start::Host;

/// How Python is run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PythonSettings {
    /// The interpreter of calls that name none: a path, or a name to be searched for in the PATH
    /// of tasks. When there is no such program, the worker does without Python.
    pub interpreter: String,
    /// Most interpreters at one time, 1 at least; as many as there are processors when not given.
    pub interpreters_max: Option<u32>,
    /// Calls after which an interpreter is replaced, 1 at least.
    pub calls_max: u32,
    /// An interpreter whose resident memory has grown by this many bytes since its first call is
    /// replaced.
    pub memory_growth_bytes: u64,
    /// How long an interpreter may wait for a call before it is ended.
    #[serde(with = "human_duration")]
    pub idle_limit: Duration,
    /// How long an interpreter may take to start.
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

/// Carries out `python`. When it is dropped, its interpreters are killed, and nothing is
/// confirmed; when the worker's process dies, the system kills them.
#[derive(Clone, Debug)]
pub struct PythonExecutor {
    pool: Arc<Pool>,
}

impl PythonExecutor {
    /// An executor, unless the interpreter that calls use by default is not there. The scratch
    /// directory of `surroundings` must not be that of another executor.
    ///
    /// Kills the interpreters and removes the files that an earlier boot of this worker left. As
    /// [`ProcessExecutor::open`](crate::ProcessExecutor::open), it makes this process adopt
    /// orphans.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says what is in the way.
    pub fn open(
        settings: PythonSettings,
        surroundings: ProcessSettings,
    ) -> Result<Option<Self>, OpenError> {
        let found = start::find_program(&settings.interpreter, &surroundings.env);
        let Some(interpreter) = found else {
            let interpreter = &settings.interpreter;
            tracing::info!(interpreter, "interpreter not found; this worker does without Python");
            return Ok(None);
        };
        tracing::debug!(interpreter = %interpreter.display(), "this worker has Python");
        kahn_platform::adopt_orphans().map_err(|source| OpenError::Adopt { source })?;
        let scratch = Arc::new(Scratch::open(&surroundings.scratch_dir)?);
        let n_killed = trees::kill_leftovers(scratch.root());
        if n_killed > 0 {
            tracing::warn!(n_killed, "killed interpreters that an earlier boot left");
        }
        let host = Host::open(settings, surroundings, scratch)?;
        Ok(Some(Self { pool: Arc::new(Pool::new(host)) }))
    }
}

#[async_trait]
impl Executor for PythonExecutor {
    fn kind(&self) -> ActionKind {
        ActionKind::Python
    }

    /// As the trait says. When the returned future is dropped, the interpreter is killed without
    /// grace in the background.
    async fn run(&self, assignment: Assignment, mut control: Control) -> Report {
        self.pool.look_after();
        let Action::Python(call) = &assignment.work.action else {
            let failure = Failure::new(
                Cause::of(CauseKind::Infeasible),
                "this executor carries out `python` only",
            );
            return not_run(&assignment, failure);
        };
        let request = match Request::new(call, &assignment) {
            Ok(request) => request,
            Err(failure) => return not_run(&assignment, failure),
        };
        let ready = tokio::select! {
            biased;
            reason = control.stop_requested() => Err(Failure::of(reason)),
            ready = self.pool.check_out(&request.key, &assignment.resources) => ready,
        };
        match ready {
            Ok(checked_out) => call::carry_out(checked_out, request, assignment, control).await,
            Err(failure) => not_run(&assignment, failure),
        }
    }
}

fn not_run(assignment: &Assignment, failure: Failure) -> Report {
    assignment.logs.seal();
    Report { outcome: Err(failure), usage: Usage::default() }
}

/// The worker, not the task, is at fault, and another worker may do better.
fn gave_up(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::Preempted), message)
}

/// The task asks for what cannot be started here.
fn cannot_start(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::Image), message)
}
