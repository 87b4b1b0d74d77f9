//! Launches attempts and reports their ends to the driver.
//!
//! An attempt that ends immediately, such as a call of a short function, must not cost two wake-ups
//! of the driver and two runtime tasks. Attempts that start in the same round of the driver are
//! therefore polled once each, one after the other, and those that complete are reported together.
//! Each remaining attempt continues in its own task.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kahn_model::{AttemptId, Cause, CauseKind, Failure, Token, Usage};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Input;
use crate::shipping::{Shipment, Shipping};
use kahn_executor::logs::LogWriter;
use kahn_executor::secrets::Secrets;
use kahn_executor::{Assignment, Control, Executor, Report};

/// How long the end of an attempt waits without progress for its output to be received. As long as
/// output is being received, it waits for all of it; otherwise the report marks the output as late.
const LAST_OUTPUT_WAIT: Duration = Duration::from_secs(1);
/// Delay before the start of an attempt is reported. Most short processes and Python calls have
/// ended by then, and only their end is reported, which includes the run time: each separate report
/// costs the driver and the coordinator a round.
const START_DELAY: Duration = Duration::from_millis(5);
/// Time budget for the first polls of a task. After it, the remaining attempts are spawned without
/// a first poll.
const TURN: Duration = Duration::from_micros(500);
/// Minimum number of attempts per task.
const SHARE_MIN: usize = 8;
/// Maximum number of attempts per task, so that early ends are reported without long delays.
const SHARE_MAX: usize = 32;

/// An attempt that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub token: Token,
    pub report: Report,
    /// Whether some of its output has not been received yet.
    pub is_output_late: bool,
}

/// An attempt to be started.
pub(super) struct Launch {
    pub executor: Arc<dyn Executor>,
    pub secrets: Arc<Secrets>,
    pub assignment: Assignment,
    pub control: Control,
    pub start: Arc<Start>,
    /// Ships its output; `None` if it cannot produce output.
    pub shipping: Option<Shipping>,
    pub token: Token,
}

/// Starts attempts, spread over about as many tasks as there are runtime threads.
pub(super) fn launch(mut launches: Vec<Launch>, inbox: &mpsc::Sender<Input>) {
    let n_threads = tokio::runtime::Handle::current().metrics().num_workers();
    let share = launches.len().div_ceil(n_threads).clamp(SHARE_MIN, SHARE_MAX);
    while !launches.is_empty() {
        let rest = launches.split_off(share.min(launches.len()));
        tokio::spawn(begin(std::mem::replace(&mut launches, rest), inbox.clone()));
    }
}

/// Polls each attempt once. Reports the completed ones together and spawns the others.
async fn begin(launches: Vec<Launch>, inbox: mpsc::Sender<Input>) {
    let began_at = Instant::now();
    let mut ended = Vec::new();
    for launch in launches {
        let mut attempt = launch.attempt(&inbox);
        let report = if began_at.elapsed() < TURN { attempt.poll_once() } else { None };
        match report {
            Some(report) if attempt.log.is_empty() => {
                attempt.log.seal();
                ended.push(Ended { token: attempt.token, report, is_output_late: false });
            }
            Some(report) => drop(tokio::spawn(attempt.report_end(report, None))),
            None => drop(tokio::spawn(attempt.run_to_end())),
        }
    }
    if !ended.is_empty() {
        // Fails only if the driver has ended.
        drop(inbox.send(Input::Ended(ended)).await);
    }
}

/// A running attempt.
struct Attempt {
    id: AttemptId,
    token: Token,
    running: BoxFuture<'static, Report>,
    start: Arc<Start>,
    log: Arc<LogWriter>,
    shipping: Option<Shipping>,
    inbox: mpsc::Sender<Input>,
}

impl Launch {
    fn attempt(self, inbox: &mpsc::Sender<Input>) -> Attempt {
        let Self { executor, secrets, assignment, control, start, shipping, token } = self;
        let (id, log) = (assignment.attempt, Arc::clone(&assignment.logs));
        let running = async move {
            let running = AssertUnwindSafe(secrets.carry_out(executor, assignment, control));
            running.catch_unwind().await.unwrap_or_else(|_| broken(id))
        };
        let running = running.boxed();
        Attempt { id, token, running, start, log, shipping, inbox: inbox.clone() }
    }
}

/// The report of an attempt whose executor panicked. Another worker may succeed, so it is retried.
fn broken(id: AttemptId) -> Report {
    tracing::error!(run = %id.run, task = id.task.0, "an executor panicked");
    let failure = Failure::new(Cause::of(CauseKind::Preempted), "the worker's executor panicked");
    Report { outcome: Err(failure), usage: Usage::default() }
}

impl Attempt {
    /// Polls the attempt once and returns the report if it completed. A noop waker is enough,
    /// because the attempt is polled again afterwards.
    fn poll_once(&mut self) -> Option<Report> {
        match self.running.poll_unpin(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(report) => Some(report),
            Poll::Pending => None,
        }
    }

    /// Runs the attempt to its end. Ships its output from the first byte on.
    async fn run_to_end(mut self) {
        let mut reader = self.log.reader(0);
        let mut shipment = None;
        let mut is_told = false;
        let mut is_shipped = false;
        let told = tokio::time::sleep(START_DELAY);
        tokio::pin!(told);
        let report = loop {
            tokio::select! {
                biased;
                report = &mut self.running => break report,
                is_silent = reader.is_silent(), if !is_shipped => {
                    is_shipped = true;
                    shipment = if is_silent { None } else { self.ship() };
                }
                () = &mut told, if !is_told => {
                    is_told = true;
                    self.start.request();
                }
            }
        };
        self.report_end(report, shipment).await;
    }

    fn ship(&self) -> Option<Shipment> {
        let shipping = self.shipping.as_ref()?;
        Some(shipping.ship(self.id, self.token, self.log.reader(0)))
    }

    async fn report_end(self, report: Report, shipment: Option<Shipment>) {
        // Seal the log before reporting, so that no output can follow the end of the attempt.
        self.log.seal();
        let shipment = if self.log.is_empty() { None } else { shipment.or_else(|| self.ship()) };
        let is_output_late = match shipment {
            Some(shipment) => !shipment.wait_until_received(LAST_OUTPUT_WAIT).await,
            None => false,
        };
        let ended = Ended { token: self.token, report, is_output_late };
        // Fails only if the driver has ended.
        drop(self.inbox.send(Input::Ended(vec![ended])).await);
    }
}

/// Notifies the driver that an attempt has started, once this is requested. An attempt that ends
/// first needs no such notification, because its end implies its start.
pub(super) struct Start {
    state: AtomicU8,
    token: Token,
    inbox: mpsc::Sender<Input>,
}

const HAS_BEGUN: u8 = 1;
const IS_WANTED: u8 = 2;

impl Start {
    pub(super) fn new(token: Token, inbox: mpsc::Sender<Input>) -> Self {
        Self { state: AtomicU8::new(0), token, inbox }
    }

    /// Records that the attempt has started, and notifies the driver if requested.
    pub(super) fn begin(&self) {
        if self.state.fetch_or(HAS_BEGUN, Ordering::AcqRel) & IS_WANTED != 0 {
            self.send();
        }
    }

    /// Requests the notification, and sends it if the attempt has already started.
    fn request(&self) {
        if self.state.fetch_or(IS_WANTED, Ordering::AcqRel) & HAS_BEGUN != 0 {
            self.send();
        }
    }

    fn send(&self) {
        // May be dropped when the inbox is full: the end of the attempt implies its start.
        drop(self.inbox.try_send(Input::Started(self.token)));
    }
}

#[cfg(test)]
mod tests;
