//! Attempts set going, and their ends told.
//!
//! An attempt that is over as soon as it began, as a call of a short function is, must not cost
//! two wake-ups of the driver and two tasks of the runtime. So those that start in one round of
//! the driver are polled once each, one after the other, and the ends found there are told
//! together. Whatever is not over by then goes on by itself.

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

/// How long the end of an attempt waits for more of its output to be received. It waits for all of
/// it while it goes on; where it does not, the report says that the output is late.
const LAST_OUTPUT_WAIT: Duration = Duration::from_secs(1);
/// When an attempt that goes on is told to have started. Most short processes and calls of Python
/// are over by then, and their end, which says for how long they ran, is all that is told: each
/// report that comes alone costs the driver and the coordinator a round.
const START_DELAY: Duration = Duration::from_millis(5);
/// When first polls have taken this long, the attempts that are left do not wait for one another
/// any more.
const TURN: Duration = Duration::from_micros(500);
/// Fewer attempts than this are not worth another task.
const SHARE_MIN: usize = 8;
/// And of so many the first need not wait for the last, to be told of.
const SHARE_MAX: usize = 32;

/// An attempt that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub token: Token,
    pub report: Report,
    /// Whether some of what it printed is still under way.
    pub is_output_late: bool,
}

/// An attempt that is about to begin.
pub(super) struct Launch {
    pub executor: Arc<dyn Executor>,
    pub secrets: Arc<Secrets>,
    pub assignment: Assignment,
    pub control: Control,
    pub start: Arc<Start>,
    /// Where what it prints goes; nowhere when it cannot print.
    pub shipping: Option<Shipping>,
    pub token: Token,
}

/// Sets attempts going, in as many tasks as there are threads for.
pub(super) fn launch(mut launches: Vec<Launch>, inbox: &mpsc::Sender<Input>) {
    let n_threads = tokio::runtime::Handle::current().metrics().num_workers();
    let share = launches.len().div_ceil(n_threads).clamp(SHARE_MIN, SHARE_MAX);
    while !launches.is_empty() {
        let rest = launches.split_off(share.min(launches.len()));
        tokio::spawn(begin(std::mem::replace(&mut launches, rest), inbox.clone()));
    }
}

/// Polls each once. Those that are over are told together, the others go on alone.
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
            Some(report) => drop(tokio::spawn(attempt.tell(report, None))),
            None => drop(tokio::spawn(attempt.go_on())),
        }
    }
    if !ended.is_empty() {
        // Without a driver there is nobody to tell.
        drop(inbox.send(Input::Ended(ended)).await);
    }
}

/// An attempt under way.
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

/// An executor has a fault; that of another worker may not.
fn broken(id: AttemptId) -> Report {
    tracing::error!(run = %id.run, task = id.task.0, "an executor panicked");
    let failure = Failure::new(Cause::of(CauseKind::Preempted), "the worker's executor panicked");
    Report { outcome: Err(failure), usage: Usage::default() }
}

impl Attempt {
    /// The report, if the attempt is over at once. Whoever goes on with it polls it again, so
    /// nobody is woken for it.
    fn poll_once(&mut self) -> Option<Report> {
        match self.running.poll_unpin(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(report) => Some(report),
            Poll::Pending => None,
        }
    }

    /// Goes on to the end. From the first byte that it prints, its output is shipped.
    async fn go_on(mut self) {
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
                    self.start.tell();
                }
            }
        };
        self.tell(report, shipment).await;
    }

    fn ship(&self) -> Option<Shipment> {
        let shipping = self.shipping.as_ref()?;
        Some(shipping.ship(self.id, self.token, self.log.reader(0)))
    }

    async fn tell(self, report: Report, shipment: Option<Shipment>) {
        // Before anything is told, and whatever still holds the log: nothing follows.
        self.log.seal();
        let shipment = if self.log.is_empty() { None } else { shipment.or_else(|| self.ship()) };
        let is_output_late = match shipment {
            Some(shipment) => !shipment.settle(LAST_OUTPUT_WAIT).await,
            None => false,
        };
        let ended = Ended { token: self.token, report, is_output_late };
        // Without a driver there is nobody to tell.
        drop(self.inbox.send(Input::Ended(vec![ended])).await);
    }
}

/// Tells the driver that an attempt has begun, once somebody wants to know: an end that comes at
/// once says so, too.
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

    /// The attempt has begun.
    pub(super) fn begin(&self) {
        if self.state.fetch_or(HAS_BEGUN, Ordering::AcqRel) & IS_WANTED != 0 {
            self.send();
        }
    }

    /// From now on, the driver wants to know.
    fn tell(&self) {
        if self.state.fetch_or(IS_WANTED, Ordering::AcqRel) & HAS_BEGUN != 0 {
            self.send();
        }
    }

    fn send(&self) {
        // Not lost when the inbox is full: the end tells the start, too.
        drop(self.inbox.try_send(Input::Started(self.token)));
    }
}

#[cfg(test)]
mod tests;
