//! The task of an appender: one loop over replies, commands and two timers.

use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;

use kahn_core::log::{Head, LogWriter, Probe, Reply, Term, Verdict};
use kahn_model::Partition;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tracing::{error, info, warn};

use super::backoff::Backoff;
use super::{AppendEvent, EndReason};
use crate::chain::link;
use crate::error::StoreError;
use crate::lease::RENEWALS_PER_TTL;
use crate::store::{AppendPipe, AppendReply, Batch, LogStore};

pub(super) enum Command {
    Push(Batch),
    Checkpointed(u64),
    Close,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Push(_) => "Push",
            Self::Checkpointed(_) => "Checkpointed",
            Self::Close => "Close",
        })
    }
}

enum Next {
    Reply(AppendReply),
    Command(Option<Command>),
    WaitOver,
    RenewDue,
    Renewed(Result<Head, StoreError>),
}

/// A renewal in flight, and whether the head that it returns is still relevant.
struct Renewal {
    sent_at: Instant,
    probe: Option<Probe>,
    done: Pin<Box<dyn Future<Output = Result<Head, StoreError>> + Send>>,
}

pub(super) struct Task {
    store: Arc<dyn LogStore>,
    partition: Partition,
    term: Term,
    commands: mpsc::Receiver<Command>,
    events: Box<dyn Fn(AppendEvent) + Send>,
    writer: LogWriter<Batch>,
    pipe: Box<dyn AppendPipe>,
    backoff: Backoff,
    /// Nothing is sent before this.
    wait_until: Option<Instant>,
    renew_clock: Interval,
    renewal: Option<Renewal>,
    /// The last checkpoint but one. The next checkpoint frees memory up to here.
    checkpoint: u64,
    is_troubled: bool,
    is_closing: bool,
    /// Whether the store had everything when it was asked last, and nothing was sent since.
    is_verified: bool,
}

impl Task {
    pub(super) fn new(
        store: Arc<dyn LogStore>,
        partition: Partition,
        term: Term,
        head: Head,
        commands: mpsc::Receiver<Command>,
        events: Box<dyn Fn(AppendEvent) + Send>,
    ) -> Self {
        let pipe = store.pipe(partition, term);
        let renew_every = store.lease_ttl() / RENEWALS_PER_TTL;
        // The first one at once: reading the log may have taken long.
        let mut renew_clock = interval(renew_every);
        renew_clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            store,
            partition,
            term,
            commands,
            events,
            writer: LogWriter::new(head),
            pipe,
            backoff: Backoff::default(),
            wait_until: None,
            renew_clock,
            renewal: None,
            checkpoint: head.seq,
            is_troubled: false,
            is_closing: false,
            is_verified: false,
        }
    }

    pub(super) async fn run(mut self) {
        let reason = loop {
            if self.wait_until.is_none() {
                while let Some(append) = self.writer.next_send() {
                    self.is_verified = false;
                    self.pipe.send(append);
                }
            }
            if self.is_closing && self.writer.is_settled() {
                if self.is_verified {
                    break EndReason::Closed;
                }
                // Only this owner can append what the store may have lost, so it asks once more.
                if self.wait_until.is_none() {
                    self.renew();
                }
            }
            let next = self.next().await;
            if let ControlFlow::Break(reason) = self.on(next) {
                break reason;
            }
        };
        if reason == EndReason::Closed
            && let Err(error) = self.store.release(self.partition, self.term).await
        {
            warn!(partition = %self.partition, %error, "partition not released, it will expire");
        }
        info!(partition = %self.partition, term = %self.term, ?reason, "appender ended");
        self.tell(AppendEvent::Ended { partition: self.partition, reason });
    }

    async fn next(&mut self) -> Next {
        let Self { pipe, commands, wait_until, renew_clock, renewal, is_closing, .. } = self;
        let renewed = async {
            match renewal {
                Some(renewal) => renewal.done.as_mut().await,
                None => pending().await,
            }
        };
        let waited = async {
            match *wait_until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            reply = poll_fn(|cx| pipe.poll_reply(cx)) => Next::Reply(reply),
            command = commands.recv(), if !*is_closing => Next::Command(command),
            () = waited => Next::WaitOver,
            done = renewed => Next::Renewed(done),
            _ = renew_clock.tick() => Next::RenewDue,
        }
    }

    fn on(&mut self, next: Next) -> ControlFlow<EndReason> {
        match next {
            Next::Reply(reply) => return self.on_reply(reply),
            Next::Command(Some(command)) => self.on_command(command),
            // The handle was dropped, and this task ends with it.
            Next::Command(None) => self.on_command(Command::Close),
            Next::WaitOver => self.wait_until = None,
            Next::RenewDue => self.renew(),
            Next::Renewed(done) => return self.on_renewed(done),
        }
        ControlFlow::Continue(())
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Push(batch) => {
                let hash = link(self.writer.head().hash, &batch.payload);
                self.writer.push(batch, hash);
            }
            Command::Checkpointed(seq) => {
                self.writer.checkpointed(self.checkpoint);
                self.checkpoint = seq;
            }
            Command::Close => {
                self.is_closing = true;
                self.is_verified = false;
            }
        }
    }

    fn on_reply(&mut self, reply: AppendReply) -> ControlFlow<EndReason> {
        let verdict = self.writer.on_reply(reply.send, reply.reply);
        match reply.reply {
            Reply::Refused | Reply::Unknown => {
                if verdict == Verdict::Resend {
                    self.on_trouble(reply.cause.as_ref());
                }
                ControlFlow::Continue(())
            }
            Reply::Applied | Reply::Duplicate | Reply::Fenced | Reply::Behind(_) => {
                self.on_verdict(verdict)
            }
        }
    }

    /// Applies a verdict that is based on an answer of the store.
    fn on_verdict(&mut self, verdict: Verdict) -> ControlFlow<EndReason> {
        let partition = self.partition;
        match verdict {
            Verdict::Committed { through } => {
                self.on_answer();
                self.tell(AppendEvent::Committed { partition, through_seq: through });
            }
            Verdict::Progressed | Verdict::Resend | Verdict::Rewound { missing: 0 } => {
                self.on_answer();
            }
            Verdict::Rewound { missing } => {
                self.on_answer();
                error!(%partition, missing, "the store had lost committed batches");
                self.tell(AppendEvent::TailLost { partition, missing });
            }
            Verdict::Late => {}
            Verdict::Fenced => return ControlFlow::Break(EndReason::Fenced),
            Verdict::Diverged(store) => {
                error!(%partition, %store, ours = %self.writer.head(), "the log has diverged");
                return ControlFlow::Break(EndReason::Diverged { store });
            }
        }
        ControlFlow::Continue(())
    }

    fn on_answer(&mut self) {
        self.backoff.reset();
        if self.is_troubled {
            self.is_troubled = false;
            info!(partition = %self.partition, "the store accepts batches again");
            self.tell(AppendEvent::Recovered { partition: self.partition });
        }
    }

    fn on_trouble(&mut self, cause: Option<&StoreError>) {
        self.wait_until = Some(Instant::now() + self.backoff.next(fastrand::f64()));
        self.tell_trouble(cause);
    }

    fn tell_trouble(&mut self, cause: Option<&StoreError>) {
        if self.is_troubled {
            return;
        }
        self.is_troubled = true;
        let partition = self.partition;
        let cause =
            cause.map_or_else(|| "the connection was lost".to_owned(), StoreError::described);
        warn!(%partition, %cause, "the store does not accept batches");
        self.tell(AppendEvent::Troubled { partition, cause });
    }

    fn renew(&mut self) {
        if self.renewal.is_some() {
            return;
        }
        let (store, partition, term) = (Arc::clone(&self.store), self.partition, self.term);
        let done = Box::pin(async move { store.renew(partition, term).await });
        let (sent_at, probe) = (Instant::now(), self.writer.probe());
        self.renewal = Some(Renewal { sent_at, probe, done });
    }

    fn on_renewed(&mut self, done: Result<Head, StoreError>) -> ControlFlow<EndReason> {
        let Some(Renewal { sent_at, probe, .. }) = self.renewal.take() else {
            return ControlFlow::Continue(());
        };
        match done {
            Ok(head) => {
                self.tell(AppendEvent::Renewed { partition: self.partition, sent_at });
                match probe {
                    Some(probe) => {
                        let verdict = self.writer.on_probe(probe, head);
                        self.is_verified = self.writer.is_settled() && head == self.writer.head();
                        self.on_verdict(verdict)
                    }
                    None => ControlFlow::Continue(()),
                }
            }
            Err(StoreError::Fenced { .. }) => ControlFlow::Break(EndReason::Fenced),
            Err(error) => {
                if self.is_closing {
                    self.on_trouble(Some(&error));
                } else {
                    self.tell_trouble(Some(&error));
                }
                ControlFlow::Continue(())
            }
        }
    }

    fn tell(&self, event: AppendEvent) {
        (self.events)(event);
    }
}
