//! A test rig for executors: makes assignments, runs them, and collects reports and logs.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use kahn_model::{AttemptId, CauseKind, Failure, RunId, TaskIx, Timeouts, Work};
use tokio::task::JoinHandle;

use crate::logs::{LOG_BYTES_MAX, LogDir, LogReader};
use crate::secrets::GivenSecrets;
use crate::{Assignment, Control, Executor, Report, Stopper, attempt_environment, control};

/// How long to wait for output or a report before a test fails. Generous, for a busy host.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// Creates assignments of consecutive attempts of one task, with logs in a directory.
#[derive(Debug)]
pub struct Assignments {
    logs: LogDir,
    n_attempts: AtomicU32,
}

impl Assignments {
    /// Keeps logs in `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self::with_log_cap(dir, LOG_BYTES_MAX)
    }

    /// Keeps at most `cap` bytes of the log of each attempt.
    #[must_use]
    pub fn with_log_cap(dir: &Path, cap: u64) -> Self {
        Self { logs: LogDir::open(dir, cap).unwrap(), n_attempts: AtomicU32::new(0) }
    }

    /// The directory of logs.
    #[must_use]
    pub fn logs(&self) -> &LogDir {
        &self.logs
    }

    /// The next attempt, without secrets, requests or timeouts.
    pub fn next(&self, work: impl Into<Arc<Work>>) -> Assignment {
        let attempt = AttemptId {
            run: RunId::from_slice(&[1; 16]).unwrap(),
            task: TaskIx(0),
            number: 1 + self.n_attempts.fetch_add(1, Ordering::Relaxed),
        };
        Assignment {
            attempt,
            namespace: None,
            task_name: "task".to_owned(),
            work: work.into(),
            env: attempt_environment(attempt, "task", None),
            secrets: GivenSecrets::none(),
            resources: Arc::default(),
            timeouts: Timeouts::default(),
            logs: Arc::new(self.logs.writer(attempt)),
            is_resumed: false,
        }
    }
}

/// An attempt that runs in the background.
#[derive(Debug)]
pub struct Running {
    /// Requests its end.
    pub stopper: Stopper,
    /// Its report. Aborting the handle drops the executor's future.
    pub reporting: JoinHandle<Report>,
    reader: LogReader,
    seen: String,
    was_started: Arc<AtomicBool>,
}

/// An attempt that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its report.
    pub report: Report,
    /// Its whole log.
    pub log: String,
    /// Whether the executor reported the start.
    pub was_started: bool,
}

/// Starts an attempt.
pub fn start<E: Executor + 'static>(executor: &Arc<E>, assignment: Assignment) -> Running {
    let (stopper, control, was_started) = controls();
    start_with(executor, assignment, stopper, control, was_started)
}

/// Starts an attempt that is cancelled from the beginning.
pub fn start_cancelled<E: Executor + 'static>(
    executor: &Arc<E>,
    assignment: Assignment,
) -> Running {
    let (stopper, control, was_started) = controls();
    stopper.stop(CauseKind::Cancelled);
    start_with(executor, assignment, stopper, control, was_started)
}

fn controls() -> (Stopper, Control, Arc<AtomicBool>) {
    let was_started = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&was_started);
    let (stopper, control) = control(move || flag.store(true, Ordering::SeqCst));
    (stopper, control, was_started)
}

fn start_with<E: Executor + 'static>(
    executor: &Arc<E>,
    assignment: Assignment,
    stopper: Stopper,
    control: Control,
    was_started: Arc<AtomicBool>,
) -> Running {
    let reader = assignment.logs.reader(0);
    let executor = Arc::clone(executor);
    let reporting = tokio::spawn(async move { executor.run(assignment, control).await });
    Running { stopper, reporting, reader, seen: String::new(), was_started }
}

impl Running {
    /// Waits until the log contains `word` and returns the log so far.
    ///
    /// # Panics
    ///
    /// Panics when the log ends without it, or after two minutes without output.
    pub async fn printed(&mut self, word: &str) -> String {
        while !self.seen.contains(word) {
            let chunk = tokio::time::timeout(WAIT_MAX, self.reader.next()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("no `{word}` in: {}", self.seen)).unwrap();
            let chunk = chunk.unwrap_or_else(|| panic!("ended without `{word}`: {}", self.seen));
            self.seen += std::str::from_utf8(&chunk.bytes).unwrap();
        }
        self.seen.clone()
    }

    /// Waits until the log contains `word`, then requests the end, and waits for it.
    pub async fn stop_when_printed(mut self, word: &str, reason: CauseKind) -> Ended {
        self.printed(word).await;
        self.stopper.stop(reason);
        self.ended().await
    }

    /// Requests the end after `delay` from now, whatever the attempt does then, and waits for it.
    pub fn stop_after(self, delay: Duration) -> impl Future<Output = Ended> {
        let stopper = self.stopper.clone();
        let stopping = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            stopper.stop(CauseKind::Cancelled);
        });
        async {
            stopping.await.unwrap();
            self.ended().await
        }
    }

    /// Waits for the end.
    ///
    /// # Panics
    ///
    /// Panics when the executor does, or after two minutes.
    pub async fn ended(self) -> Ended {
        let Self { reporting, mut reader, seen, was_started, .. } = self;
        let report = tokio::time::timeout(WAIT_MAX, reporting).await.unwrap().unwrap();
        let mut log = seen.into_bytes();
        while let Some(chunk) = reader.next().await.unwrap() {
            log.extend_from_slice(&chunk.bytes);
        }
        let log = String::from_utf8(log).unwrap();
        Ended { report, log, was_started: was_started.load(Ordering::SeqCst) }
    }
}

impl Ended {
    /// The failure of the attempt.
    ///
    /// # Panics
    ///
    /// Panics when the attempt succeeded.
    #[must_use]
    pub fn failure(&self) -> Failure {
        self.report.outcome.clone().expect_err("the attempt fails")
    }

    /// The outputs, each as `name=json`, by name.
    ///
    /// # Panics
    ///
    /// Panics when the attempt failed.
    #[must_use]
    pub fn outputs(&self) -> Vec<String> {
        let outputs = self.report.outcome.as_ref();
        let outputs = outputs.unwrap_or_else(|failure| panic!("{failure}: {}", self.log));
        outputs.0.iter().map(|(name, value)| format!("{name}={}", value.as_json())).collect()
    }

    /// The JSON text of one output.
    ///
    /// # Panics
    ///
    /// Panics when the attempt failed.
    #[must_use]
    pub fn output(&self, name: &str) -> Option<&str> {
        let outputs = self.report.outcome.as_ref().expect("the attempt succeeds");
        outputs.0.get(name).map(|value| value.as_json())
    }

    /// The JSON text of the only output, which is called `result`.
    ///
    /// # Panics
    ///
    /// Panics when the attempt failed or has other outputs.
    #[must_use]
    pub fn result(&self) -> String {
        assert_eq!(self.outputs().len(), 1, "{:?}", self.outputs());
        self.output("result").expect("an output called `result`").to_owned()
    }
}
