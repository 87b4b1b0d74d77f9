//! Starts interpreters.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use kahn_executor::failure::{cannot_start, worker_fault};
use kahn_model::Failure;
use kahn_model::limits::MESSAGE_BYTES_MAX;
use rustix::fs::Access;
use rustix::process::{Pid, Signal};
use tokio::sync::{mpsc, oneshot};

use super::PythonSettings;
use super::connection::{Connection, Kind, RESULT_BYTES_MAX};
use super::interpreter::{Interpreter, InterpreterProcess, ScratchDir};
use super::output::Output;
use super::request::Key;
use crate::limits::{LimitGuard, Limits};
use crate::process::command::check_program;
use crate::scratch::{SCRATCH_VARIABLE, Scratch};
use crate::trees::Trees;
use crate::{OpenError, ProcessSettings};
use kahn_platform::{ExitWatch, PreExecLimits, ProcessGroup};

/// The program that interpreters run.
const SOURCE: &str = include_str!("worker.py");
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// The maximum number of queued starts.
const STARTS_MAX: usize = 64;
/// The number of bytes of a failed interpreter's output that are shown.
const SHOWN_BYTES: usize = 2 << 10;

/// A command to start, its limits, and the channel for the result.
type Start = (Command, LimitGuard, oneshot::Sender<io::Result<(Child, LimitGuard)>>);

/// State shared by all interpreters of a worker.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) settings: PythonSettings,
    pub(super) grace: Duration,
    env: Vec<(OsString, OsString)>,
    scratch: Arc<Scratch>,
    trees: &'static Trees,
    limits: Arc<Limits>,
    starts: mpsc::Sender<Start>,
    lifeline: PathBuf,
    /// Kept open only by the worker: when the worker dies, the kernel signals the interpreters.
    _lifeline: File,
}

impl Host {
    pub(super) fn open(
        settings: PythonSettings,
        process_settings: ProcessSettings,
        scratch: Arc<Scratch>,
    ) -> Result<Self, OpenError> {
        let lifeline = scratch.root().join("lifeline");
        let held = kahn_platform::make_fifo(&lifeline)
            .and_then(|()| OpenOptions::new().read(true).write(true).open(&lifeline));
        let wrap = |source| OpenError::Scratch { path: lifeline.clone(), source };
        Ok(Self {
            settings,
            grace: process_settings.grace,
            env: process_settings.env,
            limits: process_settings.limits,
            trees: Trees::shared(scratch.root()),
            starts: spawn_start_thread().map_err(|source| OpenError::Threads { source })?,
            _lifeline: held.map_err(wrap)?,
            scratch,
            lifeline,
        })
    }

    /// Starts an interpreter and waits for its hello. Dropping the returned future kills it.
    pub(super) async fn start(&self, key: &Key) -> Result<Interpreter, Failure> {
        let scratch_dir =
            ScratchDir::take(&self.scratch).map_err(|error| no("scratch directory", &error))?;
        let (connection, stdin) = Connection::pair().map_err(|error| no("socket", &error))?;
        let (output, stdout) = Output::pair().map_err(|error| no("pipe", &error))?;
        let stderr = stdout.try_clone().map_err(|error| no("pipe", &error))?;
        let guard = self.limits.take_changeable()?;
        let mut command = self.command(key, &scratch_dir.dir(), &guard.pre_exec_limits())?;
        command.stdin(stdin).stdout(stdout).stderr(stderr);

        let mut tree = self.trees.enter(scratch_dir.dir());
        let name = key.interpreter.as_deref().unwrap_or(&self.settings.interpreter);
        let (child, guard) = self.spawn(command, guard, name).await?;
        tree.set_leader(Pid::from_child(&child));
        tree.set_running(false);
        let watch = match ExitWatch::new(Pid::from_child(&child)) {
            Ok(watch) => watch,
            Err(error) => {
                // A process that cannot be watched is not used.
                let _ = tree.reap_leader(Pid::from_child(&child));
                return Err(no("descriptor", &error));
            }
        };
        let process = InterpreterProcess { child, tree, watch, scratch_dir, guard };
        self.wait_for_hello(
            Interpreter::new(Arc::new(key.clone()), connection, output, process),
            name,
        )
        .await
    }

    /// Waits for the interpreter's hello.
    async fn wait_for_hello(
        &self,
        mut interpreter: Interpreter,
        name: &str,
    ) -> Result<Interpreter, Failure> {
        let limit = self.settings.start_limit;
        let hello = tokio::time::timeout(limit, interpreter.connection.receive()).await;
        let why = match hello {
            Ok(Ok(hello)) if hello.kind == Kind::Hello => {
                tracing::debug!(interpreter = name, version = hello.text, "interpreter started");
                interpreter.cpu = hello.cpu;
                return Ok(interpreter);
            }
            Ok(Ok(_)) => "it sent an unexpected message".to_owned(),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => "it ended".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it took longer than {limit:?}"),
        };
        let output = Arc::clone(&interpreter.output);
        if let Err(error) = interpreter.kill().await {
            tracing::warn!(interpreter = name, %error, "interpreter was lost");
        }
        let printed = output.take(SHOWN_BYTES);
        let printed = String::from_utf8_lossy(&printed);
        let message = format!("interpreter `{name}` did not start: {why}\n{}", printed.trim_end());
        Err(cannot_start(message.trim_end()))
    }

    fn command(
        &self,
        key: &Key,
        scratch_dir: &Path,
        limits: &PreExecLimits,
    ) -> Result<Command, Failure> {
        let program = match &key.interpreter {
            None => find_program(&self.settings.interpreter, &self.env),
            Some(name) if name.contains('/') => {
                let working_dir = key.working_dir.as_deref().unwrap_or_default();
                Some(scratch_dir.join(working_dir).join(&**name))
            }
            Some(name) => find_program(name, &self.env),
        };
        let name = key.interpreter.as_deref().unwrap_or(&self.settings.interpreter);
        let program =
            program.ok_or_else(|| cannot_start(&format!("interpreter `{name}` not found")))?;
        let directory = key.working_dir.as_ref().map(|dir| scratch_dir.join(&**dir));
        let start_env = key.start_env.iter().map(|(name, value)| (&**name, &**value));
        let mut command = match limits.is_empty() {
            true => Command::new(program),
            false => {
                check_program(scratch_dir, &program).map_err(|error| not_started(name, &error))?;
                limits.command(program.as_os_str())
            }
        };
        command
            .args(["-u", "-c", SOURCE])
            .arg(&self.lifeline)
            .arg(directory.as_deref().unwrap_or(Path::new("")))
            .arg(RESULT_BYTES_MAX.to_string())
            .arg(MESSAGE_BYTES_MAX.to_string())
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .envs(start_env)
            .env(SCRATCH_VARIABLE, scratch_dir)
            .current_dir(scratch_dir)
            .process_group(0);
        Ok(command)
    }

    async fn spawn(
        &self,
        command: Command,
        guard: LimitGuard,
        name: &str,
    ) -> Result<(Child, LimitGuard), Failure> {
        let (sender, spawned) = oneshot::channel();
        let gone = |_| worker_fault("the worker no longer starts interpreters");
        self.starts.send((command, guard, sender)).await.map_err(|_| gone(()))?;
        spawned.await.map_err(|_| gone(()))?.map_err(|error| not_started(name, &error))
    }
}

/// Looks up a program: a path, or a name in the PATH of `env`.
pub(super) fn find_program(name: &str, env: &[(OsString, OsString)]) -> Option<PathBuf> {
    let is_executable =
        |path: &PathBuf| path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok();
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(is_executable);
    }
    let path = env.iter().rfind(|(name, _)| name == "PATH");
    let path = path.map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value);
    std::env::split_paths(path).map(|entry| entry.join(name)).find(is_executable)
}

/// Spawns the thread that starts interpreters.
///
/// Starting a program blocks its thread until the program is loaded. The thread must not end early,
/// because its children would then be mistaken for orphans.
fn spawn_start_thread() -> io::Result<mpsc::Sender<Start>> {
    let (starts, mut receiver) = mpsc::channel::<Start>(STARTS_MAX);
    std::thread::Builder::new().name("kahn-python".to_owned()).spawn(move || {
        while let Some((mut command, guard, sender)) = receiver.blocking_recv() {
            let spawned = guard.enter().and_then(|_membership| command.spawn());
            // Closes the interpreter's ends of the pipes.
            drop(command);
            if let Err(Ok((mut child, _guard))) = sender.send(spawned.map(|child| (child, guard))) {
                // The caller is gone. If the signal fails, the process has ended already.
                if let Some(group) = ProcessGroup::led_by(Pid::from_child(&child)) {
                    let _ = group.signal(Signal::KILL);
                }
                let _ = child.wait();
            }
        }
    })?;
    Ok(starts)
}

fn not_started(name: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => cannot_start(&format!("interpreter `{name}` not found")),
        io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock => {
            worker_fault(&format!("worker cannot start `{name}`: {error}"))
        }
        _ => cannot_start(&format!("cannot start interpreter `{name}`: {error}")),
    }
}

fn no(what: &str, error: &io::Error) -> Failure {
    worker_fault(&format!("worker has no {what} for an interpreter: {error}"))
}
