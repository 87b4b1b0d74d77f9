//! Runs one attempt, from its start to its report.

use std::io::{self, PipeReader};
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kahn_executor::failure::{self, worker_fault};
use kahn_model::{Cause, CauseKind, Failure, Outputs, Timeouts, Usage};
use kahn_spawn::{Child, NotStarted, Reaped};
use rustix::io::Errno;
use rustix::process::Signal;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::command::Plan;
use super::starters::Starter;
use super::usage::Sampler;
use super::{RunsOn, capture};
use crate::ProcessSettings;
use crate::limits::LimitGuard;
use crate::scratch::{Scratch, Slot};
use crate::trees::{Tree, Trees};
use kahn_executor::logs::LogWriter;
use kahn_executor::{Assignment, Control, Report, output_file};
use kahn_platform::{ExitWatch, Membership};

/// Retries for a program whose file is still open for writing, in a fork of another thread.
const N_BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// How often a starter thread looks into the pipe of a process that has printed something.
const LOOK_PERIOD: Duration = Duration::from_millis(1);

/// State shared by all attempts of a worker.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) settings: ProcessSettings,
    pub(super) scratch: Arc<Scratch>,
    pub(super) trees: &'static Trees,
    /// Cancelled when the executor is dropped.
    pub(super) is_closed: CancellationToken,
}

/// The state of an attempt when its starter thread is done with it.
pub(super) enum Progress {
    /// The attempt has ended.
    Finished(Report),
    /// The attempt continues on the runtime.
    StillRunning(JoinHandle<Report>),
}

/// An attempt whose first process was started.
struct Started {
    child: Child,
    pipe: PipeReader,
    tree: Tree,
    guard: LimitGuard,
    /// Set when the first process has been reaped.
    dead: Option<Dead>,
}

impl Started {
    /// Waits for the end of the first process, for at most `timeout` and not while its pipe fills
    /// up, because nobody reads the pipe meanwhile. Returns whether the process has ended.
    fn ends_within(&self, timeout: Duration) -> io::Result<bool> {
        let due = Instant::now() + timeout;
        let left = || due.saturating_duration_since(Instant::now());
        loop {
            // The system cannot wait for a pipe to fill up, and most tasks that print anything
            // print little. So the pipe is looked into at intervals, and only if it holds anything.
            if self.child.has_ended_within(left().min(LOOK_PERIOD))? {
                return Ok(true);
            }
            if left().is_zero() || capture::is_filling(&self.pipe) {
                return Ok(false);
            }
            self.child.wait_for_end_or_input(self.pipe.as_fd(), left())?;
        }
    }
}

/// The first process after its end.
struct Dead {
    elapsed: Duration,
    reaped: Reaped,
}

/// Why and how an attempt was stopped.
struct Stopped {
    reason: CauseKind,
    was_killed: bool,
}

impl Host {
    /// Starts an attempt and waits for its end, up to the exit timeout of the starter thread.
    /// Cancelling `abandoned` ends the attempt without grace.
    pub(super) fn begin(
        self: Arc<Self>,
        starter: &mut Starter,
        runtime: &Handle,
        assignment: Assignment,
        mut control: Control,
        abandoned: CancellationToken,
    ) -> Progress {
        let nobody_waits = abandoned.is_cancelled().then_some(CauseKind::Cancelled);
        if let Some(reason) = control.stop_reason().or(nobody_waits) {
            return Progress::Finished(Report::not_run(Failure::of(reason)));
        }
        let started_at = Instant::now();
        let slot = match self.scratch.take() {
            Ok(slot) => slot,
            Err(error) => {
                let failure = worker_fault(&format!("worker has no scratch directory: {error}"));
                return Progress::Finished(Report::not_run(failure));
            }
        };
        let (mut started, membership) = match self.start(starter, slot, &assignment) {
            Ok(started) => started,
            Err(failure) => {
                runtime.block_on(self.release(slot, RunsOn::Starter));
                return Progress::Finished(Report::not_run(failure));
            }
        };
        control.started();
        let Assignment { timeouts, logs, .. } = assignment;
        let exit_timeout = timeouts.run.unwrap_or(Duration::MAX).min(starter.exit_timeout());
        // If waiting fails, the attempt moves to the runtime and is watched there.
        if started.ends_within(exit_timeout).unwrap_or(false) {
            let elapsed = started_at.elapsed();
            let reaped = started.tree.reap_leader(started.child.pid()).ok();
            started.dead = reaped.map(|reaped| Dead { elapsed, reaped });
        }
        // Other processes of the attempt may take a while to die. The group also counts zombies.
        let is_over =
            started.dead.is_some() && started.guard.is_clear() && started.tree.has_no_orphans();
        let runs_on = if is_over { RunsOn::Starter } else { RunsOn::Runtime };
        let run = Run { host: self, slot, started_at, abandoned, timeouts, runs_on };
        if is_over {
            let (report, guard) = runtime.block_on(run.run_to_end(started, control, logs));
            starter.reusable_group = guard.and_then(|guard| guard.into_reusable(membership));
            return Progress::Finished(report);
        }
        started.guard.leave(membership);
        let rest = async { run.run_to_end(started, control, logs).await.0 };
        Progress::StillRunning(runtime.spawn(rest))
    }

    /// Starts the program. Blocks until it is loaded, which takes long on a slow disk.
    fn start(
        &self,
        starter: &mut Starter,
        slot: Slot,
        assignment: &Assignment,
    ) -> Result<(Started, Option<Membership>), Failure> {
        let (dir, output_file) = (self.scratch.dir(slot), self.scratch.output_file(slot));
        let plan = Plan::new(assignment, &self.settings.env, &dir, &output_file)?;
        let no_pipe = |error| worker_fault(&format!("worker cannot make a pipe: {error}"));
        let (pipe, output) = capture::pipe().map_err(no_pipe)?;
        let (mut guard, membership) =
            self.settings.limits.take(&assignment.resources, starter.reusable_group.take())?;
        let program = plan.ready()?;
        let limits = guard.pre_exec_limits();
        let cgroup_procs = limits.open_cgroup_procs().map_err(cannot_be_limited)?;
        let limits = limits.for_launcher(cgroup_procs.as_ref());
        let mut tree = self.trees.enter(dir.clone());
        let membership = guard.ensure_entered(membership).map_err(cannot_be_limited)?;
        let child =
            start_with_retries(|| starter.launcher.start(&program, output.as_fd(), &limits))
                .map_err(|error| match error {
                    NotStarted::Limits(error) => cannot_be_limited(error),
                    NotStarted::Program(error) => {
                        guard.explain(&error).unwrap_or_else(|| plan.explain(&error))
                    }
                })?;
        tree.set_leader(child.pid());
        Ok((Started { child, pipe, tree, guard, dead: None }, membership))
    }

    async fn release(&self, slot: Slot, runs_on: RunsOn) {
        if self.scratch.try_release(slot) {
            return;
        }
        let scratch = Arc::clone(&self.scratch);
        if let Err(error) = runs_on.block(move || scratch.clear(slot)).await {
            tracing::warn!(%error, "cannot remove scratch directory");
        }
    }
}

/// Starts a program, with retries while its file is open for writing.
fn start_with_retries(
    mut start: impl FnMut() -> Result<Child, NotStarted>,
) -> Result<Child, NotStarted> {
    for _ in 0..N_BUSY_TRIES {
        match start() {
            Err(NotStarted::Program(error)) if is_busy(&error) => std::thread::sleep(BUSY_PAUSE),
            started => return started,
        }
    }
    start()
}

fn cannot_be_limited(error: io::Error) -> Failure {
    worker_fault(&format!("worker cannot apply the attempt's limits: {error}"))
}

/// A running attempt.
struct Run {
    host: Arc<Host>,
    slot: Slot,
    started_at: Instant,
    abandoned: CancellationToken,
    timeouts: Timeouts,
    /// [`RunsOn::Starter`] only if all processes of the attempt are dead.
    runs_on: RunsOn,
}

impl Run {
    /// Runs the attempt until its report is available or the executor is dropped. In the latter
    /// case its processes are killed without waiting for their death. The returned guard's group is
    /// empty.
    async fn run_to_end(
        self,
        started: Started,
        control: Control,
        log: Arc<LogWriter>,
    ) -> (Report, Option<LimitGuard>) {
        let ended = tokio::select! {
            biased;
            ended = self.finish(started, control, log) => ended,
            () = self.host.is_closed.cancelled() => (Report::not_run(worker_fault("worker has closed")), None),
        };
        self.host.release(self.slot, self.runs_on).await;
        ended
    }

    async fn finish(
        &self,
        started: Started,
        control: Control,
        log: Arc<LogWriter>,
    ) -> (Report, Option<LimitGuard>) {
        let Started { child, pipe, tree, mut guard, dead } = started;
        let ended = CancellationToken::new();
        let pumping = capture::pump(pipe, log, ended.clone(), self.runs_on);
        let supervising = async {
            let result = self.supervise(&child, tree, &mut guard, dead, control).await;
            ended.cancel();
            result
        };
        let (result, ()) = tokio::join!(supervising, pumping);
        let (status, stopped, mut usage) = match result {
            Ok(result) => result,
            Err(error) => {
                return (
                    Report::not_run(worker_fault(&format!("worker lost the process: {error}"))),
                    None,
                );
            }
        };
        guard.update_kill_count();
        usage.memory_peak = usage.memory_peak.max(guard.memory_reached());
        let outcome = match stopped {
            Some(stopped) => {
                Err(failure::stopped(stopped.reason, stopped.was_killed, self.timeouts.run))
            }
            None => {
                let outcome = self.outcome(status).await;
                // An OOM kill of any process explains the failure, whatever the other processes
                // made of it.
                outcome.map_err(|failure| guard.explain_end(&failure).unwrap_or(failure))
            }
        };
        (Report { outcome, usage }, Some(guard))
    }

    /// Waits for the end of the first process, stops it if necessary, and kills the remaining ones.
    async fn supervise(
        &self,
        child: &Child,
        mut tree: Tree,
        guard: &mut LimitGuard,
        dead: Option<Dead>,
        control: Control,
    ) -> io::Result<(ExitStatus, Option<Stopped>, Usage)> {
        let sampler = Sampler::new(self.started_at);
        let mut stopped = Ok(None);
        let Dead { elapsed, reaped } = match dead {
            Some(dead) => dead,
            None => {
                stopped = self.watch(child, &tree, guard, &sampler, control).await;
                if stopped.is_err() {
                    tree.signal(Signal::KILL);
                }
                let elapsed = self.started_at.elapsed();
                Dead { elapsed, reaped: tree.reap_leader(child.pid())? }
            }
        };
        if self.runs_on == RunsOn::Runtime {
            // The control group comes first, since it contains all processes. Dead orphans are
            // reaped after.
            guard.kill_rest().await;
            tree.kill_rest().await;
        }
        Ok((reaped.status, stopped?, sampler.usage(elapsed, &reaped)))
    }

    /// Waits for the end of the first process, and stops it if necessary.
    async fn watch(
        &self,
        child: &Child,
        tree: &Tree,
        guard: &LimitGuard,
        sampler: &Sampler,
        mut control: Control,
    ) -> io::Result<Option<Stopped>> {
        let watch = ExitWatch::new(child.pid())?;
        let has_share = AtomicBool::new(false);
        let at_sample = || {
            tree.reap_dead_orphans();
            if !has_share.swap(true, Ordering::Relaxed) {
                guard.share_processors();
            }
        };
        let run_left = self.timeouts.run.map(|all| all.saturating_sub(self.started_at.elapsed()));
        let stopped = tokio::select! {
            biased;
            () = watch.died() => None,
            () = self.abandoned.cancelled() => {
                Some(Stopped { reason: CauseKind::Cancelled, was_killed: true })
            }
            reason = control.stop_or_timeout(run_left) => {
                let was_killed = !self.terminate(tree, &watch).await;
                Some(Stopped { reason, was_killed })
            }
            () = sampler.sample(child.pid(), at_sample) => None,
        };
        if stopped.as_ref().is_some_and(|stopped| stopped.was_killed) {
            tree.signal(Signal::KILL);
            watch.died().await;
        }
        Ok(stopped)
    }

    /// Asks the process group to end. Returns whether the first process did so within the grace
    /// period.
    async fn terminate(&self, tree: &Tree, watch: &ExitWatch) -> bool {
        let grace = self.timeouts.grace.unwrap_or(self.host.settings.grace);
        tree.signal(Signal::TERM);
        // A stopped process handles SIGTERM only after it continues.
        tree.signal(Signal::CONT);
        tokio::select! {
            biased;
            () = watch.died() => true,
            () = tokio::time::sleep(grace) => false,
            () = self.abandoned.cancelled() => false,
        }
    }

    async fn outcome(&self, status: ExitStatus) -> Result<Outputs, Failure> {
        if let Some(signal) = status.signal() {
            let name = signal_name(signal);
            return Err(Failure::new(Cause::signal(signal), &name));
        }
        match status.code() {
            Some(0) => self.outputs().await,
            code => Err(Failure::new(Cause::exit_code(code.unwrap_or(-1)), "")),
        }
    }

    async fn outputs(&self) -> Result<Outputs, Failure> {
        let path = self.host.scratch.output_file(self.slot);
        if !self.host.scratch.has_outputs(self.slot) {
            return Ok(Outputs::default());
        }
        match self.runs_on.block(move || output_file::read(&path)).await {
            Ok(read) => read.map_err(|error| Failure::new(Cause::exit_code(0), &error.to_string())),
            Err(error) => Err(worker_fault(&error.to_string())),
        }
    }
}

/// Returns the name of a signal, such as `SIGSEGV`, or its number if it has no name.
pub(crate) fn signal_name(signal: i32) -> String {
    let Some(named) = Signal::from_named_raw(signal) else { return format!("signal {signal}") };
    // The `Debug` output is `"Signal::SEGV"`, including the quotes.
    let shown = format!("{named:?}");
    format!("SIG{}", shown.trim_matches('"').trim_start_matches("Signal::"))
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::TXTBSY.raw_os_error())
}
