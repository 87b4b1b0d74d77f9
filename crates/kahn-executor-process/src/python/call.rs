//! Executes one call, from its request frame to its report.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use kahn_executor::failure::{self, cannot_start, worker_fault};
use kahn_model::{Cause, CauseKind, Failure, Outputs, Usage};
use rustix::process::{Pid, Signal};
use tokio::time::Instant;

use super::connection::{Kind, Reply};
use super::interpreter::{Interpreter, InterpreterProcess, ProcessExit};
use super::memory_stats;
use super::output::Copier;
use super::pool::CheckedOut;
use super::request::Request;
use crate::process::signal_name;
use kahn_executor::outputs_of_result;
use kahn_executor::{Assignment, Control, Report};

/// Calls longer than this have their pipe and memory watched. Until then, their output stays in the
/// pipe.
const SHORT: Duration = Duration::from_millis(20);
/// The maximum delay between the end of the connection and the end of the process for a regular
/// exit of the interpreter.
const END_DELAY_MAX: Duration = Duration::from_secs(1);

/// How a call ended.
#[derive(Debug)]
enum End {
    Replied(Reply),
    /// The process ended.
    Died,
    /// The reply is malformed, or the connection was closed.
    Broken(String),
    /// The call was stopped.
    Stopped {
        reason: CauseKind,
        was_killed: bool,
    },
}

/// The timeouts of a call.
#[derive(Clone, Copy, Debug)]
struct Limits {
    run: Option<Duration>,
    grace: Duration,
}

/// Executes one call in an idle interpreter.
pub(super) async fn carry_out(
    mut checked_out: CheckedOut,
    request: Request,
    assignment: Assignment,
    mut control: Control,
) -> Report {
    let frame = match request.frame(&checked_out.interpreter.directory()) {
        Ok(frame) => frame,
        Err(failure) => {
            checked_out.return_to_pool().await;
            return Report::not_run(failure);
        }
    };
    let limits = Limits {
        run: assignment.timeouts.run,
        grace: assignment.timeouts.grace.unwrap_or(checked_out.grace()),
    };
    let interpreter = &mut checked_out.interpreter;
    let started_at = Instant::now();
    control.started();
    interpreter.output.discard();
    interpreter.process().tree.set_running(true);
    let mut copier = Copier::new(Arc::clone(&interpreter.output), assignment.logs);
    let peak = AtomicU64::new(0);
    let end = run_call(interpreter, &frame, &mut copier, &mut control, limits, &peak).await;
    let ended_at = Instant::now();
    interpreter.n_calls += 1;
    interpreter.memory_stats.look(ended_at);

    let mut usage = Usage {
        elapsed: ended_at.duration_since(started_at),
        cpu: Duration::ZERO,
        memory_peak: interpreter.memory_stats.resident.max(peak.into_inner()),
        ..Usage::default()
    };
    let io = kahn_platform::io_bytes(Pid::from_child(&interpreter.process().child));
    (usage.read_bytes, usage.written_bytes) = interpreter.count_io(io);
    let guard = interpreter.refresh_guard();
    let out_of_memory = guard.ran_out_of_memory();
    usage.memory_peak = usage.memory_peak.max(guard.memory_reached());
    let outcome = match end {
        End::Replied(reply) => {
            usage.cpu = reply.cpu.saturating_sub(interpreter.cpu);
            interpreter.cpu = reply.cpu;
            let outcome = after_reply(checked_out, reply, copier).await;
            // The function may have failed because a process that it started was OOM-killed.
            outcome.map_err(|failure| out_of_memory.unwrap_or(failure))
        }
        end => {
            let cpu_before = interpreter.cpu;
            let had_oom_kill = interpreter.memory_stats.had_oom_kill();
            let (exit, _permit) = checked_out.kill().await;
            copier.finish().await;
            usage.cpu =
                exit.as_ref().map_or(Duration::ZERO, |exit| exit.cpu - cpu_before.min(exit.cpu));
            Err(match (end, exit) {
                (End::Died | End::Broken(_), Ok(_)) if out_of_memory.is_some() => {
                    out_of_memory.unwrap_or_else(|| Failure::of(CauseKind::OutOfMemory))
                }
                (End::Stopped { reason, was_killed }, _) => {
                    failure::stopped(reason, was_killed, limits.run)
                }
                (End::Broken(why), _) => Failure::new(Cause::of(CauseKind::Exception), &why),
                (_, Ok(exit)) => died(&exit, had_oom_kill),
                (_, Err(error)) => worker_fault(&format!("worker lost the interpreter: {error}")),
            })
        }
    };
    Report { outcome, usage }
}

/// Sends the call to the interpreter and waits until it replies, dies, or is stopped. A stopped
/// call is given its grace period.
async fn run_call(
    interpreter: &mut Interpreter,
    frame: &[u8],
    copier: &mut Copier,
    control: &mut Control,
    limits: Limits,
    peak: &AtomicU64,
) -> End {
    let (connection, process) = interpreter.parts();
    let watching = async {
        tokio::time::sleep(SHORT).await;
        let pid = Pid::from_child(&process.child);
        tokio::join!(copier.copy(), memory_stats::sample(pid, peak));
    };
    let exchange = connection.exchange(frame);
    tokio::pin!(watching, exchange);
    let reason = tokio::select! {
        biased;
        reply = &mut exchange => {
            return match reply {
                Ok(reply) => End::Replied(reply),
                Err(_) if is_dying(process).await => End::Died,
                Err(error) => End::Broken(format!("interpreter lost its connection: {error}")),
            };
        }
        () = process.watch.died() => return End::Died,
        reason = control.stop_or_timeout(limits.run) => reason,
        () = &mut watching => return End::Broken("watching the call ended early".to_owned()),
    };
    process.tree.signal(Signal::TERM);
    // A stopped process handles SIGTERM only after it continues.
    process.tree.signal(Signal::CONT);
    let was_killed = tokio::select! {
        biased;
        () = process.watch.died() => false,
        reply = &mut exchange => reply.is_err() && !is_dying(process).await,
        () = tokio::time::sleep(limits.grace) => true,
        () = &mut watching => true,
    };
    End::Stopped { reason, was_killed }
}

/// Returns whether an interpreter ends soon after it closed its connection.
async fn is_dying(process: &InterpreterProcess) -> bool {
    tokio::time::timeout(END_DELAY_MAX, process.watch.died()).await.is_ok()
}

/// Returns the outcome of a call that was replied to. Ends the interpreter if the call left
/// processes behind.
async fn after_reply(
    checked_out: CheckedOut,
    reply: Reply,
    copier: Copier,
) -> Result<Outputs, Failure> {
    let tree = &checked_out.interpreter.process().tree;
    let is_spent = reply.is_spent || tree.has_orphans();
    tree.set_running(false);
    if is_spent {
        tracing::debug!("a call left processes behind; its interpreter is ended");
        let (exit, _permit) = checked_out.kill().await;
        copier.finish().await;
        exit.map_err(|error| worker_fault(&format!("worker lost the interpreter: {error}")))?;
    } else {
        copier.finish().await;
        checked_out.return_to_pool().await;
    }
    outcome(&reply)
}

fn outcome(reply: &Reply) -> Result<Outputs, Failure> {
    let exception = |text: &str| Failure::new(Cause::of(CauseKind::Exception), text);
    let text = &*reply.text;
    match reply.kind {
        Kind::Result => outputs_of_result(text).map_err(|error| exception(&error.to_string())),
        Kind::Exception => {
            let (raised, words) = text.split_once('\0').unwrap_or(("", text));
            Err(exception(words).raised(raised))
        }
        Kind::Exit => Err(Failure::new(Cause::exit_code(text.parse().unwrap_or(1)), "")),
        Kind::BadDirectory => {
            Err(cannot_start(&format!("working directory cannot be entered: {text}")))
        }
        Kind::Hello | Kind::Pong => Err(exception("interpreter sent an unexpected message")),
    }
}

fn died(exit: &ProcessExit, had_oom_kill: bool) -> Failure {
    let Some(signal) = exit.signal() else {
        let message = "the interpreter ended in the middle of the call";
        return Failure::new(Cause::exit_code(exit.code()), message);
    };
    if signal == Signal::KILL.as_raw() && had_oom_kill {
        let message = "the system killed the interpreter for want of memory";
        return Failure::new(Cause::of(CauseKind::OutOfMemory), message);
    }
    let name = signal_name(signal);
    Failure::new(Cause::signal(signal), &format!("{name} ended the interpreter"))
}
