//! One attempt from start to report.

use std::io::PipeReader;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kahn_model::{Cause, CauseKind, Failure, Outputs, Usage};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::limits::Hold;
use super::super::{Assignment, Control, Report};
use super::command::Plan;
use super::scratch::{Scratch, Slot};
use super::trees::{Tree, Trees};
use super::usage::Sampler;
use super::{ProcessSettings, capture, gave_up, outputs};
use crate::platform::{self, ExitWatch};

/// A program that is still being written, by the fork of another thread, is tried again.
const N_BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// What all attempts of a worker share.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) settings: ProcessSettings,
    pub(super) scratch: Arc<Scratch>,
    pub(super) trees: &'static Trees,
}

/// An attempt whose first process runs.
struct Started {
    child: Child,
    pipe: PipeReader,
    tree: Tree,
    hold: Hold,
}

/// How an attempt was made to end.
struct Stopped {
    reason: CauseKind,
    was_killed: bool,
}

impl Host {
    /// Carries out an attempt; `abandoned` ends it without grace.
    pub(super) async fn carry_out(
        self: Arc<Self>,
        assignment: Assignment,
        mut control: Control,
        abandoned: CancellationToken,
    ) -> Report {
        if let Some(reason) = control.stop_reason() {
            return not_run(Failure::of(reason));
        }
        let started_at = Instant::now();
        let slot = match self.scratch.take() {
            Ok(slot) => slot,
            Err(error) => {
                return not_run(gave_up(&format!("worker has no scratch directory: {error}")));
            }
        };
        let started = self.start(slot, &assignment);
        let report = match started {
            Ok(started) => {
                control.started();
                let run = Run { host: &self, slot, started_at, abandoned };
                run.finish(started, assignment, control).await
            }
            Err(failure) => not_run(failure),
        };
        self.release(slot).await;
        report
    }

    /// Starts the program. Blocks until it is loaded, which takes long where it comes from a slow
    /// disk.
    fn start(&self, slot: Slot, assignment: &Assignment) -> Result<Started, Failure> {
        let (dir, output_file) = (self.scratch.dir(slot), self.scratch.output_file(slot));
        let plan = Plan::new(assignment, &self.settings.env, &dir, &output_file)?;
        let no_pipe = |error| gave_up(&format!("worker cannot make a pipe: {error}"));
        let (pipe, stdout) = capture::pipe().map_err(no_pipe)?;
        let stderr = stdout.try_clone().map_err(no_pipe)?;
        let hold = self.settings.limits.take(&assignment.resources)?;
        let (stdout, stderr) = (Stdio::from(stdout), Stdio::from(stderr));
        let mut command = plan.command(stdout, stderr, &hold.gate())?;
        let mut tree = self.trees.enter(dir.clone());
        let inside = hold
            .enter()
            .map_err(|error| gave_up(&format!("worker cannot use a control group: {error}")))?;
        let mut n_tries = 0;
        let child = loop {
            match command.spawn() {
                Err(error) if is_busy(&error) && n_tries < N_BUSY_TRIES => {
                    n_tries += 1;
                    std::thread::sleep(BUSY_PAUSE);
                }
                spawned => {
                    break spawned.map_err(|error| {
                        hold.explain(&error).unwrap_or_else(|| plan.explain(&error))
                    })?;
                }
            }
        };
        drop(inside);
        tree.set_leader(Pid::from_child(&child));
        Ok(Started { child, pipe, tree, hold })
    }

    async fn release(&self, slot: Slot) {
        if self.scratch.is_pristine(slot) {
            return self.scratch.put_back(slot);
        }
        let scratch = Arc::clone(&self.scratch);
        if let Err(error) = tokio::task::spawn_blocking(move || scratch.clear(slot)).await {
            tracing::warn!(%error, "scratch directory stays behind");
        }
    }
}

/// The run of one attempt.
struct Run<'a> {
    host: &'a Arc<Host>,
    slot: Slot,
    started_at: Instant,
    abandoned: CancellationToken,
}

impl Run<'_> {
    async fn finish(self, started: Started, assignment: Assignment, control: Control) -> Report {
        let Started { child, pipe, tree, mut hold } = started;
        let ended = CancellationToken::new();
        let timeouts = assignment.timeouts;
        let pumping = capture::pump(pipe, assignment.logs, ended.clone());
        let supervising = async {
            let parts = (child, tree, &mut hold);
            let result = self.supervise(parts, control, timeouts.run, timeouts.grace).await;
            ended.cancel();
            result
        };
        let (result, ()) = tokio::join!(supervising, pumping);
        let (status, stopped, mut usage) = match result {
            Ok(result) => result,
            Err(error) => return not_run(gave_up(&format!("worker lost the process: {error}"))),
        };
        usage.memory_peak = usage.memory_peak.max(hold.memory_reached());
        let outcome = match stopped {
            Some(stopped) => Err(stopped_failure(&stopped, timeouts.run)),
            None => {
                let outcome = self.outcome(status).await;
                // Whichever of its processes was killed, and whatever the others made of that.
                outcome.map_err(|failure| hold.ran_out_of_memory().unwrap_or(failure))
            }
        };
        Report { outcome, usage }
    }

    /// Waits for the end of the first process, or brings it about, and kills the rest.
    async fn supervise(
        &self,
        (mut child, mut tree, hold): (Child, Tree, &mut Hold),
        mut control: Control,
        run_timeout: Option<Duration>,
        grace: Option<Duration>,
    ) -> std::io::Result<(ExitStatus, Option<Stopped>, Usage)> {
        let leader = Pid::from_child(&child);
        let watch = ExitWatch::new(&child)?;
        let sampler = Sampler::default();
        let has_share = AtomicBool::new(false);
        let at_sample = || {
            tree.tidy();
            if !has_share.swap(true, Ordering::Relaxed) {
                hold.share_processors();
            }
        };
        let stopped = tokio::select! {
            biased;
            () = watch.died() => None,
            () = self.abandoned.cancelled() => {
                Some(Stopped { reason: CauseKind::Cancelled, was_killed: true })
            }
            reason = control.stop_or_timeout(run_timeout) => {
                let was_killed = !self.terminate(&tree, &watch, grace).await;
                Some(Stopped { reason, was_killed })
            }
            () = sampler.sample(leader, at_sample) => None,
        };
        if stopped.as_ref().is_some_and(|stopped| stopped.was_killed) {
            tree.signal(Signal::KILL);
            watch.died().await;
        }
        let elapsed = self.started_at.elapsed();
        let io = platform::io_bytes(leader);
        let reaped = tree.reap_leader(&mut child)?;
        // First by group, which knows them all; it leaves dead orphans to be reaped.
        hold.kill_rest().await;
        tree.kill_rest().await;
        Ok((reaped.status, stopped, sampler.usage(elapsed, &reaped.rusage, io)))
    }

    /// Asks the group to end, and waits; returns whether the first process did.
    async fn terminate(&self, tree: &Tree, watch: &ExitWatch, grace: Option<Duration>) -> bool {
        let grace = grace.unwrap_or(self.host.settings.grace);
        tree.signal(Signal::TERM);
        // A process that was stopped hears the signal only when it goes on.
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
        match tokio::task::spawn_blocking(move || outputs::read(&path)).await {
            Ok(read) => read.map_err(|error| Failure::new(Cause::exit_code(0), &error.to_string())),
            Err(error) => Err(gave_up(&error.to_string())),
        }
    }
}

fn not_run(failure: Failure) -> Report {
    Report { outcome: Err(failure), usage: Usage::default() }
}

fn stopped_failure(stopped: &Stopped, run_timeout: Option<Duration>) -> Failure {
    let why = match (stopped.reason, run_timeout) {
        (CauseKind::RunTimeout, Some(limit)) => format!("ran for longer than {limit:?}"),
        _ => String::new(),
    };
    let how = if stopped.was_killed { "had to be killed" } else { "" };
    let separator = if why.is_empty() || how.is_empty() { "" } else { ", " };
    Failure::new(Cause::of(stopped.reason), &format!("{why}{separator}{how}"))
}

/// `SIGSEGV`; its number when it has no name.
pub(in crate::executor) fn signal_name(signal: i32) -> String {
    let Some(named) = Signal::from_named_raw(signal) else { return format!("signal {signal}") };
    // The library's own form is `"Signal::SEGV"`, quotes included.
    let shown = format!("{named:?}");
    format!("SIG{}", shown.trim_matches('"').trim_start_matches("Signal::"))
}

fn is_busy(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(Errno::TXTBSY.raw_os_error())
}
