//! The coordinator's driver: the one order in which events are handled, changes are appended and
//! commands leave. Production has the same loop around the same two cores; what differs there is
//! only who brings the inputs and carries the outputs away.
//!
//! One turn of the loop:
//!
//! 1. everything that arrived is handled, one by one, and then (not before: signs of life may be
//!    among what arrived) the deadline, if it has come;
//! 2. [`Core::place`] fills the room;
//! 3. the changes of all that go out as at most one batch of each partition;
//! 4. whatever rests on durable changes alone leaves, replies and refusals included.
//!
//! Two rules are not in the cores. Nothing leaves, and no deadline is looked at, unless the store
//! has confirmed within [`OWNER_TTL`] that the term is in force: a coordinator that was away does
//! not know whether another has taken over, nor who else was heard from. And the clock of a reign
//! starts at or after the latest time in the log, and from then on follows monotonic time alone.

mod recovery;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kahn_core::log::{Append, Head, LogWriter, Probe, Reply, Term, Verdict};
use kahn_core::{
    Change, Command, Core, Event, Outbox, Refusal, SessionId, Settings, Snapshot, Step,
};
use kahn_model::{Partition, RunId, RunState, Timestamp};

pub(crate) use recovery::{Loaded, link, recover};

/// For how long after a renewal was sent nobody else may take over.
pub(crate) const OWNER_TTL: Duration = Duration::from_millis(1500);
/// Time between two renewals.
pub(crate) const RENEW_EVERY: Duration = Duration::from_millis(400);

/// The changes of one batch, as they stand in the log.
pub(crate) type Payload = Arc<Vec<(Timestamp, Change)>>;

/// One request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestId(pub(crate) u64);

/// What arrives.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// Something that nobody waits for an answer to.
    Event(Event),
    /// Something that a client asks for.
    Request(RequestId, Event),
    /// A client wants to see a run.
    Read(RequestId, RunId),
    /// A worker's sign of life, which is to be acknowledged.
    Heartbeat(SessionId, u64),
}

/// What leaves.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// What the core wants done.
    Command(Command),
    /// The answer to a request.
    Answer(RequestId, Result<(), Refusal>),
    /// The answer to a read.
    View(RequestId, Option<View>),
    /// A sign of life was noted.
    HeartbeatNoted(SessionId, u64),
}

/// What a client sees of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) run: RunId,
    pub(crate) state: RunState,
    pub(crate) n_records: usize,
}

/// Why a reign is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Another coordinator has taken over.
    Fenced,
    /// The log is not ours.
    Diverged(Head),
}

/// When a partition's next append may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// At once.
    Now,
    /// After a little wait: the store is in trouble.
    AfterWait,
}

#[derive(Debug)]
struct Log {
    term: Term,
    /// The sequence number below the first batch of the term.
    base: u64,
    writer: LogWriter<Payload>,
    /// When the last renewal was sent that is known to have succeeded.
    renewed_at: Timestamp,
    /// The checkpoint before the last: below it, memory may be freed at the next.
    checkpoint: u64,
}

/// The rule of one coordinator over all partitions.
#[derive(Debug)]
pub(crate) struct Reign {
    core: Core,
    outbox: Outbox<Output>,
    logs: Vec<Log>,
    began_at: Timestamp,
    origin: Timestamp,
}

impl Reign {
    /// Begins, at monotonic time `mono` and wall time `wall`, with what the store holds.
    ///
    /// `is_stale` is a deliberate bug: what is known of the workers counts from the end of the log.
    pub(crate) fn begin(
        settings: Settings,
        loaded: &[Loaded],
        wall: Timestamp,
        mono: Timestamp,
        is_stale: bool,
    ) -> Self {
        let mut core = recover(settings, loaded);
        let origin = wall.max(core.state().now() + Duration::from_micros(1));
        let epoch = loaded.iter().map(|one| one.term.epoch).max().unwrap_or(0);
        let nonce = loaded.first().map_or(0, |one| one.term.nonce);
        let fresh_from = if is_stale { Timestamp::ZERO } else { origin };
        let step = core.begin(fresh_from, Term { epoch, nonce });
        let outbox = Outbox::new(core.state().settings().partitions);
        let logs = loaded.iter().map(Log::new).collect();
        let mut reign = Self { core, outbox, logs, began_at: mono, origin };
        reign.absorb(step);
        reign
    }

    /// The core's time at monotonic time `mono`.
    pub(crate) fn time_at(&self, mono: Timestamp) -> Timestamp {
        self.origin + mono.since(self.began_at)
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

    /// Whether all that was decided is durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.outbox.is_idle()
    }

    /// Whether the term is known to be in force.
    pub(crate) fn is_sure(&self, mono: Timestamp) -> bool {
        self.logs.iter().all(|log| mono < log.renewed_at + OWNER_TTL)
    }

    /// Steps 1 to 3 of a turn.
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
        self.absorb(step);
        self.close_batches();
    }

    /// Step 4 of a turn; also after each commit and renewal.
    pub(crate) fn release(&mut self, mono: Timestamp) -> Vec<Output> {
        if self.is_sure(mono) { self.outbox.release_all() } else { Vec::new() }
    }

    /// When to make a turn although nothing arrives, on the monotonic clock.
    pub(crate) fn next_turn(&self, mono: Timestamp) -> Option<Timestamp> {
        if self.core.has_more_to_place() {
            return Some(mono);
        }
        let due = self.core.next_deadline()?;
        Some((self.began_at + due.since(self.origin)).max(mono))
    }

    /// The next append of a partition, if one may go out.
    pub(crate) fn next_send(&mut self, partition: usize) -> Option<Append<Payload>> {
        self.logs[partition].writer.next_send()
    }

    /// Takes what is known of an append.
    pub(crate) fn on_append_reply(
        &mut self,
        partition: usize,
        send: u64,
        reply: Reply,
    ) -> Result<Next, End> {
        let verdict = self.logs[partition].writer.on_reply(send, reply);
        self.on_verdict(partition, verdict)
    }

    /// What a renewal that is sent now may be good for beside renewing.
    pub(crate) fn probe(&self, partition: usize) -> Option<Probe> {
        self.logs[partition].writer.probe()
    }

    /// Takes a renewal that was sent at `sent_at` and found `head`.
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

    /// A picture of a partition and the sequence number up to which it stands for the log; none
    /// while anything is under way.
    pub(crate) fn picture(&self, partition: usize) -> Option<(u64, Snapshot)> {
        let at = Partition(u16::try_from(partition).expect("invariant: partitions fit in 16 bits"));
        self.is_idle()
            .then(|| (self.logs[partition].writer.head().seq, self.core.state().snapshot(at)))
    }

    /// The store has taken a checkpoint. Memory is freed up to the one before: a store that loses
    /// its last writes may lose the checkpoint with them.
    pub(crate) fn on_checkpointed(&mut self, partition: usize, seq: u64) {
        let log = &mut self.logs[partition];
        log.writer.checkpointed(log.checkpoint);
        log.checkpoint = seq;
    }

    /// A deliberate bug: takes every batch for durable as soon as it is closed.
    pub(crate) fn believe_all_durable(&mut self) {
        for at in 0..self.logs.len() {
            let seq = self.logs[at].writer.head().seq;
            self.note_committed(at, seq);
        }
    }

    fn take(&mut self, now: Timestamp, input: Input) {
        match input {
            // Whoever sent it hears of the refusal otherwise, or is gone.
            Input::Event(event) => {
                if let Ok(step) = self.core.handle(now, event) {
                    self.absorb(step);
                }
            }
            Input::Request(id, event) => {
                let answer = self.core.handle(now, event).map(|step| self.absorb(step));
                self.outbox.hold(Output::Answer(id, answer));
            }
            Input::Read(id, run) => {
                let view = self.core.state().run(run).map(|run| View {
                    run: run.id(),
                    state: run.state,
                    n_records: run.history.len(),
                });
                self.outbox.hold(Output::View(id, view));
            }
            Input::Heartbeat(session, number) => {
                if let Ok(step) = self.core.handle(now, Event::Heartbeat { session }) {
                    self.absorb(step);
                    self.outbox.hold(Output::HeartbeatNoted(session, number));
                }
            }
        }
    }

    fn absorb(&mut self, step: Step) {
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
                    // The checkpoint may be lost too, and what is appended anew is young again.
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
