//! A Python executor with its directories and a module of functions.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kahn_executor::testing::{self, Assignments, Ended, Running};
use kahn_executor::{ALLOWED, Assignment, allowed_environment};
use kahn_executor_process::{
    LimitSettings, Limits, ProcessSettings, PythonExecutor, PythonSettings,
};
use kahn_model::{Action, CauseKind, PythonCall, Resources, Text, Work};

pub(crate) struct Worker {
    pub(crate) dir: tempfile::TempDir,
    assignments: Assignments,
    executor: Arc<PythonExecutor>,
    has_memory_groups: bool,
}

impl Worker {
    /// A worker whose tasks can import `source` as the module `functions`.
    pub(crate) fn new(source: &str) -> Self {
        Self::with(PythonSettings::default(), source)
    }

    pub(crate) fn with(settings: PythonSettings, source: &str) -> Self {
        Self::open(tempfile::tempdir().unwrap(), settings, source)
    }

    pub(crate) fn open(dir: tempfile::TempDir, settings: PythonSettings, source: &str) -> Self {
        let code = dir.path().join("code");
        std::fs::create_dir_all(&code).unwrap();
        std::fs::write(code.join("functions.py"), source).unwrap();
        let limits = Limits::open(
            LimitSettings::default(),
            &"test".parse().unwrap(),
            &Resources::cpu_milli(2000),
            None,
            &dir.path().join("groups"),
        );
        let has_memory_groups = limits.statement().label().starts_with("cgroup");
        let process_settings = ProcessSettings {
            scratch_dir: dir.path().join("scratch"),
            env: allowed_environment(&ALLOWED, std::env::vars_os()),
            grace: Duration::from_secs(10),
            limits,
        };
        Self {
            assignments: Assignments::new(&dir.path().join("logs")),
            executor: PythonExecutor::open(settings, process_settings).unwrap().unwrap().into(),
            has_memory_groups,
            dir,
        }
    }

    /// Whether the worker can use control groups for memory on this machine.
    pub(crate) fn has_memory_groups(&self) -> bool {
        self.has_memory_groups
    }

    pub(crate) fn code(&self) -> String {
        self.dir.path().join("code").to_str().unwrap().to_owned()
    }

    pub(crate) fn scratch(&self) -> std::path::PathBuf {
        self.dir.path().join("scratch").canonicalize().unwrap()
    }

    /// A call of a function in the module `functions`, or in another if the name contains a colon.
    pub(crate) fn assignment(&self, function: &str, input: &str) -> Assignment {
        let function = match function.contains(':') {
            true => function.to_owned(),
            false => format!("functions:{function}"),
        };
        let call =
            PythonCall { function: function.into(), input: Text::new(input), interpreter: None };
        let mut work = Work::new(Action::Python(Box::new(call)));
        work.working_dir = Some(Text::new(self.code()));
        self.assignments.next(work)
    }

    pub(crate) async fn call(&self, function: &str, input: &str) -> Ended {
        self.start(self.assignment(function, input)).ended().await
    }

    pub(crate) fn start(&self, assignment: Assignment) -> Running {
        testing::start(&self.executor, assignment)
    }

    pub(crate) async fn stop_when_printed(
        &self,
        assignment: Assignment,
        word: &str,
        reason: CauseKind,
    ) -> Ended {
        self.start(assignment).stop_when_printed(word, reason).await
    }
}

/// Whether a process is alive. Zombies do not count.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).is_some_and(|c| c != 'Z')
}

/// The number of live processes of the worker with this scratch directory, including interpreters.
pub(crate) fn n_of_worker(scratch: &Path) -> usize {
    let mark = format!("KAHN_SCRATCH={}/", scratch.to_str().unwrap());
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let environments = entries.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok());
    environments
        .filter(|bytes| bytes.split(|&byte| byte == 0).any(|v| v.starts_with(mark.as_bytes())))
        .count()
}
