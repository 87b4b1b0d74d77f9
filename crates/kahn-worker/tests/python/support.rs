//! An executor with its directories and a module of functions to call.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kahn_model::{
    Action, AttemptId, CauseKind, Failure, PythonCall, Resources, RunId, TaskIx, Text, Timeouts,
    Work,
};
use kahn_worker::executor::{
    ALLOWED, Assignment, Executor as _, LimitSettings, Limits, ProcessSettings, PythonExecutor,
    PythonSettings, Report, Stopper, allowed_environment, attempt_environment, control,
};
use kahn_worker::logs::{LOG_BYTES_MAX, LogDir, LogReader};
use kahn_worker::secrets::GivenSecrets;
use tokio::task::JoinHandle;

pub(crate) struct Worker {
    pub(crate) dir: tempfile::TempDir,
    logs: LogDir,
    executor: PythonExecutor,
    n_attempts: AtomicU32,
    has_memory_groups: bool,
}

pub(crate) struct Ended {
    pub(crate) report: Report,
    pub(crate) log: String,
}

pub(crate) struct Running {
    pub(crate) stopper: Stopper,
    pub(crate) carrying_out: JoinHandle<Report>,
    reader: LogReader,
    seen: String,
}

impl Worker {
    /// A worker for whose tasks `source` is the module `functions`.
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
        let surroundings = ProcessSettings {
            scratch_dir: dir.path().join("scratch"),
            env: allowed_environment(&ALLOWED, std::env::vars_os()),
            grace: Duration::from_secs(10),
            limits,
        };
        Self {
            logs: LogDir::open(&dir.path().join("logs"), LOG_BYTES_MAX).unwrap(),
            executor: PythonExecutor::open(settings, surroundings).unwrap().unwrap(),
            n_attempts: AtomicU32::new(0),
            has_memory_groups,
            dir,
        }
    }

    /// Whether this machine lets the worker use control groups for memory.
    pub(crate) fn has_memory_groups(&self) -> bool {
        self.has_memory_groups
    }

    pub(crate) fn code(&self) -> String {
        self.dir.path().join("code").to_str().unwrap().to_owned()
    }

    pub(crate) fn scratch(&self) -> std::path::PathBuf {
        self.dir.path().join("scratch").canonicalize().unwrap()
    }

    /// A call of a function in the module `functions`, or in another if there is a colon.
    pub(crate) fn assignment(&self, function: &str, input: &str) -> Assignment {
        let attempt = AttemptId {
            run: RunId::from_slice(&[1; 16]).unwrap(),
            task: TaskIx(0),
            number: 1 + self.n_attempts.fetch_add(1, Ordering::Relaxed),
        };
        let function = match function.contains(':') {
            true => function.to_owned(),
            false => format!("functions:{function}"),
        };
        let call =
            PythonCall { function: function.into(), input: Text::new(input), interpreter: None };
        let mut work = Work::new(Action::Python(Box::new(call)));
        work.working_dir = Some(Text::new(self.code()));
        Assignment {
            attempt,
            task_name: "task".to_owned(),
            work: work.into(),
            env: attempt_environment(attempt, "task", None),
            secrets: GivenSecrets::none(),
            resources: Arc::default(),
            timeouts: Timeouts::default(),
            logs: Arc::new(self.logs.writer(attempt)),
        }
    }

    pub(crate) async fn call(&self, function: &str, input: &str) -> Ended {
        self.start(self.assignment(function, input)).ended().await
    }

    pub(crate) fn start(&self, assignment: Assignment) -> Running {
        let (stopper, control) = control(|| ());
        let reader = assignment.logs.reader(0);
        let executor = self.executor.clone();
        let carrying_out = tokio::spawn(async move { executor.run(assignment, control).await });
        Running { stopper, carrying_out, reader, seen: String::new() }
    }

    pub(crate) async fn stop_when_printed(
        &self,
        assignment: Assignment,
        word: &str,
        reason: CauseKind,
    ) -> Ended {
        let mut running = self.start(assignment);
        running.printed(word).await;
        running.stopper.stop(reason);
        running.ended().await
    }
}

impl Running {
    /// Waits until the log holds `word`, and gives what it holds.
    pub(crate) async fn printed(&mut self, word: &str) -> String {
        while !self.seen.contains(word) {
            let chunk = self.reader.next().await.unwrap();
            let chunk = chunk.unwrap_or_else(|| panic!("no `{word}` in: {}", self.seen));
            self.seen += std::str::from_utf8(&chunk.bytes).unwrap();
        }
        self.seen.clone()
    }

    pub(crate) async fn ended(mut self) -> Ended {
        let report = self.carrying_out.await.unwrap();
        while let Some(chunk) = self.reader.next().await.unwrap() {
            self.seen += std::str::from_utf8(&chunk.bytes).unwrap();
        }
        Ended { report, log: self.seen }
    }
}

impl Ended {
    /// The outputs as `name=json`.
    pub(crate) fn outputs(&self) -> Vec<String> {
        let outputs = self.report.outcome.as_ref().unwrap_or_else(|f| panic!("{f}: {}", self.log));
        outputs.0.iter().map(|(name, value)| format!("{name}={}", value.as_json())).collect()
    }

    /// The output `result`.
    pub(crate) fn result(&self) -> String {
        let outputs = self.outputs();
        assert_eq!(outputs.len(), 1, "{outputs:?}");
        outputs[0].strip_prefix("result=").unwrap().to_owned()
    }

    pub(crate) fn failure(&self) -> Failure {
        self.report.outcome.clone().expect_err("the attempt fails")
    }
}

/// Whether a process lives; a dead one that nobody waits for does not count.
pub(crate) fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).is_some_and(|c| c != 'Z')
}

/// Living processes of the worker with this scratch directory, its interpreters among them.
pub(crate) fn n_of_worker(scratch: &Path) -> usize {
    let mark = format!("KAHN_SCRATCH={}/", scratch.to_str().unwrap());
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let environments = entries.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok());
    environments
        .filter(|bytes| bytes.split(|&byte| byte == 0).any(|v| v.starts_with(mark.as_bytes())))
        .count()
}
