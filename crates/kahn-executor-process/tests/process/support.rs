//! A process executor with its directories, and functions to find leftover processes.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kahn_executor::logs::{LOG_BYTES_MAX, LogDir};
use kahn_executor::testing::{self, Assignments, Ended, Running};
use kahn_executor::{ALLOWED, Assignment, allowed_environment};
use kahn_executor_process::{LimitSettings, Limits, ProcessExecutor, ProcessSettings};
use kahn_model::{Action, CauseKind, Resources, Shell, Text, Work};

/// A secret in the worker's environment.
pub(crate) const CANARY: &str = "canary-b2d1f7";

pub(crate) struct Worker {
    dir: tempfile::TempDir,
    assignments: Assignments,
    executor: Arc<ProcessExecutor>,
    limits: Arc<Limits>,
}

pub(crate) fn sh(script: &str) -> Action {
    Action::Run { script: script.into(), shell: Shell::Sh }
}

pub(crate) fn exec(argv: &[&str]) -> Action {
    Action::Exec { argv: argv.iter().map(|word| Text::new(*word)).collect() }
}

impl Worker {
    pub(crate) fn new() -> Self {
        Self::with_log_cap(LOG_BYTES_MAX)
    }

    pub(crate) fn with_log_cap(cap: u64) -> Self {
        Self::open(tempfile::tempdir().unwrap(), cap, LimitSettings::default(), None)
    }

    /// A worker with other limits than the default.
    pub(crate) fn with_limits(limits: LimitSettings) -> Self {
        Self::open(tempfile::tempdir().unwrap(), LOG_BYTES_MAX, limits, None)
    }

    /// A worker whose attempts may use this many bytes of memory in total.
    pub(crate) fn with_memory(bytes: u64) -> Self {
        let (dir, limits) = (tempfile::tempdir().unwrap(), LimitSettings::default());
        Self::open(dir, LOG_BYTES_MAX, limits, Some(bytes))
    }

    /// Whether the worker can use control groups for all resources on this machine.
    pub(crate) fn has_groups(&self) -> bool {
        self.limits.statement().has_all_controllers()
    }

    /// Whether the worker can use control groups for memory on this machine.
    pub(crate) fn has_memory_groups(&self) -> bool {
        self.limits.statement().label().starts_with("cgroup")
    }

    /// The next boot of the same worker.
    pub(crate) fn reopened(self) -> Self {
        let Self { dir, executor, .. } = self;
        drop(executor);
        Self::open(dir, LOG_BYTES_MAX, LimitSettings::default(), None)
    }

    fn open(dir: tempfile::TempDir, cap: u64, limits: LimitSettings, memory: Option<u64>) -> Self {
        let secrets = ["AWS_SECRET_ACCESS_KEY", "KAHN_TOKEN", "CANARY"]
            .map(|name| (OsString::from(name), OsString::from(CANARY)));
        let limits = open_limits(limits, memory, dir.path());
        let settings = ProcessSettings {
            limits: Arc::clone(&limits),
            scratch_dir: dir.path().join("scratch"),
            env: allowed_environment(&ALLOWED, std::env::vars_os().chain(secrets)),
            grace: Duration::from_secs(10),
        };
        Self {
            assignments: Assignments::with_log_cap(&dir.path().join("logs"), cap),
            executor: Arc::new(ProcessExecutor::open(settings).unwrap()),
            limits,
            dir,
        }
    }

    pub(crate) fn logs(&self) -> &LogDir {
        self.assignments.logs()
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch").canonicalize().unwrap()
    }

    /// The number of files and directories in scratch directories, plus outputs files.
    pub(crate) fn files_in_scratch(&self) -> usize {
        let entries = std::fs::read_dir(self.scratch()).unwrap().map(|entry| entry.unwrap().path());
        entries
            .map(|path| match path.file_name().unwrap().as_bytes() {
                b"lock" => 0,
                _ if path.is_dir() => std::fs::read_dir(path).unwrap().count(),
                _ => 1,
            })
            .sum()
    }

    pub(crate) fn assignment(&self, action: Action) -> Assignment {
        self.assignments.next(Work::new(action))
    }

    /// An attempt that requests `resources`.
    pub(crate) fn asking(&self, resources: &str, action: Action) -> Assignment {
        let resources = Arc::new(resources.parse().unwrap());
        Assignment { resources, ..self.assignment(action) }
    }

    pub(crate) async fn run(&self, action: Action) -> Ended {
        self.carry_out(self.assignment(action)).await
    }

    pub(crate) async fn carry_out(&self, assignment: Assignment) -> Ended {
        self.start(assignment).ended().await
    }

    pub(crate) fn start(&self, assignment: Assignment) -> Running {
        testing::start(&self.executor, assignment)
    }

    pub(crate) async fn stop_at_once(&self, assignment: Assignment) -> Ended {
        testing::start_cancelled(&self.executor, assignment).ended().await
    }

    pub(crate) async fn stop_when_printed(
        &self,
        assignment: Assignment,
        word: &str,
        reason: CauseKind,
    ) -> Ended {
        self.start(assignment).stop_when_printed(word, reason).await
    }

    pub(crate) async fn abandon_when_printed(&self, assignment: Assignment, word: &str) {
        let mut running = self.start(assignment);
        running.printed(word).await;
        running.reporting.abort();
    }
}

fn open_limits(settings: LimitSettings, memory: Option<u64>, dir: &Path) -> Arc<Limits> {
    let worker = "test".parse().unwrap();
    Limits::open(settings, &worker, &Resources::cpu_milli(2000), memory, &dir.join("groups"))
}

/// Writes an executable file and returns its path.
pub(crate) fn script(dir: &Path, text: &str) -> String {
    let path = dir.join("script");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The number of live processes started by attempts of this worker.
pub(crate) fn survivors(worker: &Worker) -> usize {
    let root = worker.scratch();
    count_processes("environ", |variable| {
        let value = variable.strip_prefix(b"KAHN_SCRATCH=");
        value.is_some_and(|dir| dir.starts_with(root.as_os_str().as_bytes()))
    })
}

/// The number of live processes of the attempt with this scratch directory.
pub(crate) fn n_with_scratch_dir(dir: &str) -> usize {
    let wanted = format!("KAHN_SCRATCH={dir}");
    count_processes("environ", |variable| variable == wanted.as_bytes())
}

/// The number of live processes with this argument.
pub(crate) fn n_with_argument(argument: &str) -> usize {
    count_processes("cmdline", |found| found == argument.as_bytes())
}

/// The number of processes with a matching file in `/proc`. The files of dead ones are empty.
fn count_processes(file: &str, matches: impl Fn(&[u8]) -> bool) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| std::fs::read(entry.path().join(file)).ok())
        .filter(|bytes| bytes.split(|&byte| byte == 0).any(&matches))
        .count()
}
