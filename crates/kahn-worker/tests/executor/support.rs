//! A worker's executor with its directories, and what is left of its processes.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::ffi::OsString;
use std::future::Future;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use kahn_model::{
    Action, AttemptId, CauseKind, Failure, Resources, RunId, Shell, TaskIx, Text, Timeouts, Work,
};
use kahn_worker::executor::{
    ALLOWED, Assignment, Control, Executor as _, LimitSettings, Limits, ProcessExecutor,
    ProcessSettings, Report, Stopper, allowed_environment, attempt_environment, control,
};
use kahn_worker::logs::{LOG_BYTES_MAX, LogDir, LogReader};
use kahn_worker::secrets::GivenSecrets;
use tokio::task::JoinHandle;

/// The value of secrets in the worker's environment.
pub(crate) const CANARY: &str = "canary-b2d1f7";

pub(crate) struct Worker {
    dir: tempfile::TempDir,
    logs: LogDir,
    executor: Arc<ProcessExecutor>,
    limits: Arc<Limits>,
    n_attempts: AtomicU32,
}

pub(crate) struct Ended {
    pub(crate) report: Report,
    pub(crate) log: String,
    pub(crate) was_started: bool,
}

pub(crate) struct Running {
    stopper: Stopper,
    carrying_out: JoinHandle<Report>,
    from_start: LogReader,
    was_started: Arc<AtomicBool>,
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

    /// One that is held otherwise than workers are by default.
    pub(crate) fn with_limits(limits: LimitSettings) -> Self {
        Self::open(tempfile::tempdir().unwrap(), LOG_BYTES_MAX, limits, None)
    }

    /// One that has so much memory, in bytes, for all attempts together.
    pub(crate) fn with_memory(bytes: u64) -> Self {
        let (dir, limits) = (tempfile::tempdir().unwrap(), LimitSettings::default());
        Self::open(dir, LOG_BYTES_MAX, limits, Some(bytes))
    }

    /// Whether this machine lets the worker use control groups for everything.
    pub(crate) fn has_groups(&self) -> bool {
        self.limits.statement().is_whole()
    }

    /// Whether it lets the worker use control groups for memory.
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
            logs: LogDir::open(&dir.path().join("logs"), cap).unwrap(),
            executor: Arc::new(ProcessExecutor::open(settings).unwrap()),
            n_attempts: AtomicU32::new(0),
            limits,
            dir,
        }
    }

    pub(crate) fn logs(&self) -> &LogDir {
        &self.logs
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch").canonicalize().unwrap()
    }

    /// Files and directories in scratch directories, and outputs files.
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
        let attempt = AttemptId {
            run: RunId::from_slice(&[1; 16]).unwrap(),
            task: TaskIx(0),
            number: 1 + self.n_attempts.fetch_add(1, Ordering::Relaxed),
        };
        Assignment {
            attempt,
            task_name: "task".to_owned(),
            work: Work::new(action).into(),
            env: attempt_environment(attempt, "task", None),
            secrets: GivenSecrets::none(),
            resources: Arc::default(),
            timeouts: Timeouts::default(),
            logs: Arc::new(self.logs.writer(attempt)),
        }
    }

    /// An attempt that asks for `resources`.
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
        let (stopper, control, was_started) = ends();
        self.start_with(assignment, stopper, control, was_started)
    }

    fn start_with(
        &self,
        assignment: Assignment,
        stopper: Stopper,
        control: Control,
        was_started: Arc<AtomicBool>,
    ) -> Running {
        let from_start = assignment.logs.reader(0);
        let executor = Arc::clone(&self.executor);
        let carrying_out = tokio::spawn(async move { executor.run(assignment, control).await });
        Running { stopper, carrying_out, from_start, was_started }
    }

    pub(crate) async fn stop_at_once(&self, assignment: Assignment) -> Ended {
        let (stopper, control, was_started) = ends();
        stopper.stop(CauseKind::Cancelled);
        self.start_with(assignment, stopper, control, was_started).ended().await
    }

    pub(crate) async fn stop_when_printed(
        &self,
        assignment: Assignment,
        word: &str,
        reason: CauseKind,
    ) -> Ended {
        let reader = assignment.logs.reader(0);
        let running = self.start(assignment);
        printed(reader, word).await;
        running.stopper.stop(reason);
        running.ended().await
    }

    pub(crate) async fn abandon_when_printed(&self, assignment: Assignment, word: &str) {
        let reader = assignment.logs.reader(0);
        let running = self.start(assignment);
        printed(reader, word).await;
        running.carrying_out.abort();
    }
}

fn open_limits(settings: LimitSettings, memory: Option<u64>, dir: &Path) -> Arc<Limits> {
    let worker = "test".parse().unwrap();
    Limits::open(settings, &worker, &Resources::cpu_milli(2000), memory, &dir.join("groups"))
}

fn ends() -> (Stopper, Control, Arc<AtomicBool>) {
    let was_started = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&was_started);
    let (stopper, control) = control(move || flag.store(true, Ordering::SeqCst));
    (stopper, control, was_started)
}

impl Running {
    pub(crate) fn stop_after(self, delay: Duration) -> impl Future<Output = Ended> {
        let stopper = self.stopper.clone();
        let stopping = tokio::spawn(async move {
            tokio::time::sleep(delay).await; // poll
            stopper.stop(CauseKind::Cancelled);
        });
        async {
            stopping.await.unwrap();
            self.ended().await
        }
    }

    pub(crate) async fn ended(mut self) -> Ended {
        let report = self.carrying_out.await.unwrap();
        let mut log = Vec::new();
        while let Some(chunk) = self.from_start.next().await.unwrap() {
            log.extend_from_slice(&chunk.bytes);
        }
        let log = String::from_utf8(log).unwrap();
        Ended { report, log, was_started: self.was_started.load(Ordering::SeqCst) }
    }
}

/// Waits until a log holds `word`, and gives what it holds.
pub(crate) async fn printed(mut reader: LogReader, word: &str) -> String {
    let mut text = String::new();
    while !text.contains(word) {
        let chunk = reader.next().await.unwrap();
        let chunk = chunk.unwrap_or_else(|| panic!("the log ends without `{word}`: {text}"));
        text += std::str::from_utf8(&chunk.bytes).unwrap();
    }
    text
}

pub(crate) fn failure(ended: &Ended) -> Failure {
    ended.report.outcome.clone().expect_err("the attempt fails")
}

pub(crate) fn outputs(ended: &Ended) -> Vec<(String, String)> {
    let outputs = ended.report.outcome.as_ref().expect("the attempt succeeds");
    outputs.0.iter().map(|(name, value)| (name.to_string(), value.as_json().into())).collect()
}

/// Writes an executable file; gives its path.
pub(crate) fn script(dir: &Path, text: &str) -> String {
    let path = dir.join("script");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Living processes that attempts of this worker started.
pub(crate) fn survivors(worker: &Worker) -> usize {
    let root = worker.scratch();
    count_processes("environ", |variable| {
        let value = variable.strip_prefix(b"KAHN_SCRATCH=");
        value.is_some_and(|dir| dir.starts_with(root.as_os_str().as_bytes()))
    })
}

/// Living processes of the attempt with this scratch directory.
pub(crate) fn n_with_scratch_dir(dir: &str) -> usize {
    let wanted = format!("KAHN_SCRATCH={dir}");
    count_processes("environ", |variable| variable == wanted.as_bytes())
}

/// Living processes that have this argument.
pub(crate) fn n_with_argument(argument: &str) -> usize {
    count_processes("cmdline", |found| found == argument.as_bytes())
}

/// Processes of which a file in `/proc` holds a matching text; dead ones have empty files.
fn count_processes(file: &str, matches: impl Fn(&[u8]) -> bool) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| std::fs::read(entry.path().join(file)).ok())
        .filter(|bytes| bytes.split(|&byte| byte == 0).any(&matches))
        .count()
}
