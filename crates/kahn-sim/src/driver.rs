//! The driver of the coordinator: the order in which events are handled, changes are appended and
//! commands are sent. Production has the same loop around the same two cores; only the sources of
//! inputs and the receivers of outputs differ.
//!
//! One turn of the loop:
//!
//! 1. Handles everything that arrived, one by one, and then the deadline if it is due. The deadline
//!    is last because the arrivals may contain heartbeats.
//! 2. Places ready tasks with [`Core::place`].
//! 3. Appends the changes of the turn as at most one batch per partition.
//! 4. Sends everything that depends only on durable changes, including replies and refusals.
//!
//! The driver adds two rules to those of the cores. First, nothing is sent and no deadline is
//! checked unless the store has confirmed within [`OWNER_TTL`] that the term is current: a
//! coordinator that was suspended does not know whether another has taken over, nor who was heard
//! from in the meantime. Second, the clock of a leadership starts at or after the latest time in
//! the log, and then follows monotonic time only.

mod clock;
mod follower;
mod recovery;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kahn_core::log::{Append, Head, LogWriter, Probe, Reply, Term, Verdict};
use kahn_core::{Change, Command, Core, Event, Outbox, Refusal, SessionId, Snapshot, Step};
use kahn_model::{Partition, RunId, RunState, Timestamp};

use crate::mutation::Mutation;

pub(crate) use clock::{Clock, EXACT};
pub(crate) use follower::{Follower, Page};
pub(crate) use recovery::{Loaded, link, recover};

/// For this long after a renewal was sent nobody else may take over.
pub(crate) const OWNER_TTL: Duration = Duration::from_millis(1500);
/// Time between two renewals.
pub(crate) const RENEW_EVERY: Duration = Duration::from_millis(400);

/// The changes of one batch, as stored in the log.
pub(crate) type Payload = Arc<Vec<(Timestamp, Change)>>;

/// Identifies a request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestId(pub(crate) u64);

/// An input of the driver.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// An event without an answer.
    Event(Event),
    /// A request of a client, which is answered.
    Request(RequestId, Event),
    /// A client reads a run.
    Read(RequestId, RunId),
    /// A heartbeat of a worker, which is acknowledged.
    Heartbeat(SessionId, u64),
}

/// An output of the driver.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// A command of the core.
    Command(Command),
    /// The answer to a request.
    Answer(RequestId, Result<(), Refusal>),
    /// The answer to a read.
    View(RequestId, Option<View>),
    /// The acknowledgement of a heartbeat.
    HeartbeatNoted(SessionId, u64),
}

/// A run as a client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) run: RunId,
    pub(crate) state: RunState,
    pub(crate) n_records: usize,
}

/// Why a leadership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Another coordinator has taken over.
    Fenced,
    /// The log contains a history that this coordinator did not write.
    Diverged(Head),
}

/// When the next append of a partition may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Immediately.
    Now,
    /// After a short delay, because the store has a problem.
    AfterWait,
}

#[derive(Debug)]
struct Log {
    term: Term,
    /// The sequence number before the first batch of the term.
    base: u64,
    writer: LogWriter<Payload>,
    /// The time at which the last successful renewal was sent.
    renewed_at: Timestamp,
    /// The last checkpoint but one. The next checkpoint frees memory up to here.
    checkpoint: u64,
}

/// The time during which one coordinator owns all partitions.
#[derive(Debug)]
pub(crate) struct Leadership {
    core: Core,
    outbox: Outbox<Output>,
    logs: Vec<Log>,
    clock: Clock,
    /// How long a lease certainly lasts after it was requested.
    certain_lease: Duration,
}

impl Leadership {
    /// Begins a leadership with the state that follows from the content of the store. The clock
    /// starts after the latest time in it.
    ///
    /// `mutation` injects a deliberate bug.
    pub(crate) fn begin(
        mut core: Core,
        loaded: &[Loaded],
        clock: Clock,
        mutation: Option<Mutation>,
    ) -> Self {
        let is_stale = mutation == Some(Mutation::NoFreshLease);
        let origin = clock.origin();
        let epoch = loaded.iter().map(|one| one.term.epoch).max().unwrap_or(0);
        let nonce = loaded.first().map_or(0, |one| one.term.nonce);
        let fresh_from = if is_stale { Timestamp::ZERO } else { origin };
        let step = core.begin(fresh_from, Term { epoch, nonce });
        let outbox = Outbox::new(core.state().settings().partitions);
        let logs = loaded.iter().map(Log::new).collect();
        let certain_lease = match mutation {
            Some(Mutation::NoLeaseCheck) => Duration::MAX,
            _ => clock.certain(OWNER_TTL),
        };
        let mut leadership = Self { core, outbox, logs, clock, certain_lease };
        leadership.process_step(step);
        leadership
    }

    /// Returns the core's time at monotonic time `mono`.
    pub(crate) fn time_at(&self, mono: Timestamp) -> Timestamp {
        self.clock.at(mono)
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    pub(crate) fn term(&self, partition: usize) -> Term {
        self.logs[partition].term
    }

    pub(crate) fn n_waiting(&self) -> usize {
        self.outbox.n_waiting()
    }

    /// Returns whether all decisions are durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.outbox.is_idle()
    }

    /// Returns whether the term is known to be current.
    pub(crate) fn is_sure(&self, mono: Timestamp) -> bool {
        let elapsed = |log: &Log| self.clock.elapsed(log.renewed_at, mono);
        self.logs.iter().all(|log| elapsed(log) < self.certain_lease)
    }

    /// Performs steps 1 to 3 of a turn.
    pub(crate) fn turn(&mut self, mono: Timestamp, inputs: VecDeque<Input>) {
        let now = self.time_at(mono);
        for input in inputs {
            self.take(now, input);
        }
        let is_due = self.core.next_deadline().is_some_and(|at| at <= now);
        if is_due && self.is_sure(mono) {
            self.take(now, Input::Event(Event::DeadlineReached));
        }
        let step = self.core.place(now);
        self.process_step(step);
        self.close_batches();
    }

    /// Performs step 4 of a turn. Also called after each commit and renewal.
    pub(crate) fn release(&mut self, mono: Timestamp) -> Vec<Output> {
        if self.is_sure(mono) { self.outbox.release_all() } else { Vec::new() }
    }

    /// Returns when to run the next turn if nothing arrives, on the monotonic clock.
    pub(crate) fn next_turn(&self, mono: Timestamp) -> Option<Timestamp> {
        if self.core.has_more_to_place() {
            return Some(mono);
        }
        let due = self.core.next_deadline()?;
        Some(self.clock.when(due).max(mono))
    }

    /// Returns the next append of a partition, if one may be sent.
    pub(crate) fn next_send(&mut self, partition: usize) -> Option<Append<Payload>> {
        self.logs[partition].writer.next_send()
    }

    /// Applies the reply to an append.
    pub(crate) fn on_append_reply(
        &mut self,
        partition: usize,
        send: u64,
        reply: Reply,
    ) -> Result<Next, End> {
        let verdict = self.logs[partition].writer.on_reply(send, reply);
        self.on_verdict(partition, verdict)
    }

    /// Returns a probe of the log's head for a renewal that is sent now, if one is allowed.
    pub(crate) fn probe(&self, partition: usize) -> Option<Probe> {
        self.logs[partition].writer.probe()
    }

    /// Applies a renewal that was sent at `sent_at` and found `head`.
    pub(crate) fn on_renewed(
        &mut self,
        partition: usize,
        sent_at: Timestamp,
        probe: Option<Probe>,
        head: Head,
    ) -> Result<Next, End> {
        let log = &mut self.logs[partition];
        log.renewed_at = log.renewed_at.max(sent_at);
        let Some(probe) = probe else { return Ok(Next::Now) };
        let verdict = log.writer.on_probe(probe, head);
        self.on_verdict(partition, verdict)
    }

    /// Returns a snapshot of a partition and the sequence number of the last log entry that it
    /// covers. Returns `None` while anything is not yet durable.
    pub(crate) fn snapshot(&self, partition: usize) -> Option<(u64, Snapshot)> {
        let at = Partition(u16::try_from(partition).expect("invariant: partitions fit in 16 bits"));
        self.is_idle()
            .then(|| (self.logs[partition].writer.head().seq, self.core.state().snapshot(at)))
    }

    /// Handles a stored checkpoint. Memory is freed only up to the previous one, because a store
    /// that loses its last writes may also lose the checkpoint.
    pub(crate) fn on_checkpointed(&mut self, partition: usize, seq: u64) {
        let log = &mut self.logs[partition];
        log.writer.checkpointed(log.checkpoint);
        log.checkpoint = seq;
    }

    /// A deliberate bug: treats every batch as durable as soon as it is closed.
    pub(crate) fn believe_all_durable(&mut self) {
        for at in 0..self.logs.len() {
            let seq = self.logs[at].writer.head().seq;
            self.note_committed(at, seq);
        }
    }

    fn take(&mut self, now: Timestamp, input: Input) {
        match input {
            // The sender learns of the refusal in another way, or no longer exists.
            Input::Event(event) => {
                if let Ok(step) = self.core.handle(now, event) {
                    self.process_step(step);
                }
            }
            Input::Request(id, event) => {
                let answer = self.core.handle(now, event).map(|step| self.process_step(step));
                self.outbox.hold(Output::Answer(id, answer));
            }
            Input::Read(id, run) => {
                let view = self.core.state().summary(run).map(|run| View {
                    run: run.run,
                    state: run.state,
                    n_records: run.n_records,
                });
                self.outbox.hold(Output::View(id, view));
            }
            Input::Heartbeat(session, number) => {
                if let Ok(step) = self.core.handle(now, Event::Heartbeat { session }) {
                    self.process_step(step);
                    self.outbox.hold(Output::HeartbeatNoted(session, number));
                }
            }
        }
    }

    fn process_step(&mut self, step: Step) {
        self.outbox.accept(self.core.state().now(), step.changes);
        for command in step.commands {
            self.outbox.hold(Output::Command(command));
        }
    }

    fn close_batches(&mut self) {
        for batch in self.outbox.take_batches() {
            let log = &mut self.logs[usize::from(batch.partition.0)];
            let hash = link(log.writer.head().hash, &batch.changes);
            let seq = log.writer.push(Arc::new(batch.changes), hash);
            assert_eq!(seq, log.base + batch.number, "invariant: one entry for each batch");
        }
    }

    fn on_verdict(&mut self, partition: usize, verdict: Verdict) -> Result<Next, End> {
        match verdict {
            Verdict::Committed { through } => {
                self.note_committed(partition, through);
                Ok(Next::Now)
            }
            Verdict::Rewound { missing } => {
                if missing > 0 {
                    // The checkpoint may be lost too, and the entries appended again may be lost
                    // again.
                    self.logs[partition].checkpoint = 0;
                }
                Ok(Next::Now)
            }
            Verdict::Progressed | Verdict::Late => Ok(Next::Now),
            Verdict::Resend => Ok(Next::AfterWait),
            Verdict::Fenced => Err(End::Fenced),
            Verdict::Diverged(head) => Err(End::Diverged(head)),
        }
    }

    fn note_committed(&mut self, partition: usize, seq: u64) {
        let at = Partition(u16::try_from(partition).expect("invariant: partitions fit in 16 bits"));
        self.outbox.committed(at, seq - self.logs[partition].base);
        self.close_batches();
    }
}

impl Log {
    fn new(loaded: &Loaded) -> Self {
        Self {
            term: loaded.term,
            base: loaded.head.seq,
            writer: LogWriter::new(loaded.head),
            renewed_at: loaded.asked_at,
            checkpoint: loaded.head.seq,
        }
    }
}
