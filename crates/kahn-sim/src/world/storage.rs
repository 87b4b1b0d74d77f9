//! Requests to the store and their answers. Each coordinator has one connection per partition,
//! which keeps requests in order. After it broke, an earlier request may still arrive late.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use kahn_core::Snapshot;
use kahn_core::log::{Append, Head, Probe, Reply, Term};
use kahn_model::Timestamp;

use super::network::Node;
use super::{SimEvent, World};
use crate::driver::{Loaded, Page, Payload};
use crate::oracle::Oracle;
use crate::queue::{ms, us};
use crate::store::PartitionStore;
use crate::workload::{chance, span};

/// Identifies a request to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AskId(u64);

/// The content of a request.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Append { term: Term, append: Append<Payload> },
    Renew { term: Term },
    Acquire { nonce: u64, steal: bool },
    Load { term: Term, head: Head, asked_at: Timestamp },
    Checkpoint { term: Term, seq: u64, snapshot: Arc<Snapshot> },
    Read { after_seq: u64 },
    Release { term: Term },
}

/// A request in flight.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    id: AskId,
    coordinator: usize,
    partition: usize,
    ask: Ask,
}

/// An answer of the store.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Append(Reply),
    /// The head, or `None` if another term has begun.
    Renewed(Option<Head>),
    /// The term and the head, or `None` if another owner holds the partition.
    Acquired(Option<(Term, Head)>),
    Loaded(Box<Loaded>),
    Checkpointed(bool),
    Read(Box<Page>),
    Released,
    /// It was refused before it had any effect.
    Refused,
    /// The outcome is unknown.
    Unknown,
}

/// The purpose of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Append { send: u64 },
    Renew { probe: Option<Probe>, sent_at: Timestamp },
    Acquire { sent_at: Timestamp },
    Load,
    Checkpoint { seq: u64 },
    Read,
    Release,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    coordinator: usize,
    leadership: u64,
    partition: usize,
    purpose: Purpose,
}

/// The kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A replica has every answered write.
    Replicated,
    /// One server that may lose its last writes.
    Single,
}

/// The store, and all requests to it.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) kind: Kind,
    partitions: Vec<PartitionStore>,
    /// Answers that wait for a replica: operation, request, answer.
    held_back: Vec<Vec<(u64, AskId, Answer)>>,
    pending: BTreeMap<AskId, Pending>,
    next_ask: u64,
    /// The time of the latest arrival on each connection, by coordinator and partition.
    arrivals: BTreeMap<(usize, usize), Timestamp>,
    answers: BTreeMap<(usize, usize), Timestamp>,
    /// When requests on broken connections arrive at the earliest, or `None` for never.
    fates: BTreeMap<AskId, Option<Timestamp>>,
    pub(crate) down_until: Timestamp,
    pub(crate) refusing_until: Timestamp,
    pub(crate) replica_cut_until: Timestamp,
}

impl Storage {
    pub(crate) fn new(partitions: usize, rng: &mut Rng) -> Self {
        Self {
            kind: if rng.bool() { Kind::Replicated } else { Kind::Single },
            partitions: (0..partitions).map(|_| PartitionStore::default()).collect(),
            held_back: (0..partitions).map(|_| Vec::new()).collect(),
            pending: BTreeMap::new(),
            next_ask: 0,
            arrivals: BTreeMap::new(),
            answers: BTreeMap::new(),
            fates: BTreeMap::new(),
            down_until: Timestamp::ZERO,
            refusing_until: Timestamp::ZERO,
            replica_cut_until: Timestamp::ZERO,
        }
    }

    pub(crate) fn partition(&self, partition: usize) -> &PartitionStore {
        &self.partitions[partition]
    }

    pub(crate) fn n_partitions(&self) -> usize {
        self.partitions.len()
    }

    /// Returns whether all log entries are safe, and all safe entries exist.
    pub(crate) fn is_settled(&self, oracle: &Oracle) -> bool {
        let mut partitions = self.partitions.iter().enumerate();
        partitions.all(|(at, stored)| stored.entries().len() == oracle.n_entries(at))
    }

    /// Returns the coordinator that waits for an answer.
    pub(crate) fn asker(&self, ask: AskId) -> Option<usize> {
        self.pending.get(&ask).map(|pending| pending.coordinator)
    }
}

impl World {
    pub(super) fn ask(&mut self, coordinator: usize, partition: usize, ask: Ask, purpose: Purpose) {
        self.storage.next_ask += 1;
        let id = AskId(self.storage.next_ask);
        let leadership = self.coordinators[coordinator].leadership;
        self.storage.pending.insert(id, Pending { coordinator, leadership, partition, purpose });
        let at = self.arrival(Node::Coordinator(coordinator), Node::Store);
        let last = self.storage.arrivals.entry((coordinator, partition)).or_default();
        *last = at.max(*last);
        let at = *last;
        let request = Box::new(Request { id, coordinator, partition, ask });
        self.queue.plan(at, SimEvent::StoreAsked(request));
        self.queue.plan(self.now + ms(500), SimEvent::StoreTimedOut(id));
    }

    pub(super) fn on_store_asked(&mut self, request: Request) {
        if let Some(until) = self.blocked_until(Node::Coordinator(request.coordinator), Node::Store)
        {
            self.queue.plan(until, SimEvent::StoreAsked(Box::new(request)));
            return;
        }
        let (id, partition) = (request.id, request.partition);
        match self.storage.fates.remove(&id) {
            Some(None) => return,
            Some(Some(at)) if at > self.now => {
                self.queue.plan(at, SimEvent::StoreAsked(Box::new(request)));
                return;
            }
            _ => {}
        }
        if self.storage.down_until > self.now {
            let answer = if self.rng.bool() { Answer::Refused } else { Answer::Unknown };
            self.answer(id, answer);
            return;
        }
        if self.storage.refusing_until > self.now {
            self.answer(id, Answer::Refused);
            return;
        }
        let answer = self.judge(request);
        self.after_operation(partition);
        let stored = &self.storage.partitions[partition];
        let is_safe = self.storage.kind == Kind::Single || stored.last_op() <= stored.safe_op();
        if is_safe {
            self.answer(id, answer);
        } else {
            self.storage.held_back[partition].push((stored.last_op(), id, answer));
        }
    }

    fn judge(&mut self, request: Request) -> Answer {
        let (now, mutation) = (self.now, self.options.mutation);
        let is_mending = self.lacks_safe_entries();
        let stored = &mut self.storage.partitions[request.partition];
        match request.ask {
            Ask::Append { term, append } => {
                Answer::Append(stored.append(now, term, &append, mutation))
            }
            Ask::Renew { term } => Answer::Renewed(stored.renew(now, term, mutation)),
            // Only the owner can restore what a single server lost.
            Ask::Acquire { .. } if is_mending => Answer::Refused,
            Ask::Acquire { nonce, steal } => Answer::Acquired(stored.acquire(now, nonce, steal)),
            Ask::Load { term, head, asked_at } => {
                if stored.head() != head {
                    return Answer::Refused;
                }
                let (from, checkpoint, entries) = stored.load();
                let loaded = Loaded { term, head, from, checkpoint, entries, asked_at };
                Answer::Loaded(Box::new(loaded))
            }
            Ask::Checkpoint { term, seq, snapshot } => {
                Answer::Checkpointed(stored.checkpoint(now, term, seq, snapshot))
            }
            Ask::Read { after_seq } => Answer::Read(Box::new(stored.read(after_seq))),
            Ask::Release { term } => {
                stored.release(term);
                Answer::Released
            }
        }
    }

    /// Returns whether the store lacks entries that were safe before.
    pub(super) fn lacks_safe_entries(&self) -> bool {
        let mut partitions = self.storage.partitions.iter().enumerate();
        partitions.any(|(at, stored)| stored.entries().len() < self.oracle.n_entries(at))
    }

    /// Returns whether all partitions have the same owner and it is alive.
    fn owner_of_all_lives(&self) -> bool {
        let nonce = |stored: &PartitionStore| stored.term().map(|term| term.nonce);
        let first = nonce(&self.storage.partitions[0]);
        first.is_some_and(|first| self.is_leading_as(first))
            && self.storage.partitions.iter().all(|stored| nonce(stored) == first)
    }

    /// Shows newly safe entries to the oracle, or sends them to the replica.
    fn after_operation(&mut self, partition: usize) {
        match self.storage.kind {
            Kind::Single => {
                self.show_entries(partition, false);
            }
            Kind::Replicated => {
                let stored = &self.storage.partitions[partition];
                if stored.safe_op() < stored.last_op() {
                    let lag = us(self.rng.u64(50..=2000));
                    let op = stored.last_op();
                    let at = self.storage.replica_cut_until.max(self.now) + lag;
                    self.queue.plan(at, SimEvent::StoreReplicated { partition, op });
                }
            }
        }
    }

    pub(super) fn on_replicated(&mut self, partition: usize, op: u64) {
        if self.storage.replica_cut_until > self.now {
            let until = self.storage.replica_cut_until;
            self.queue.plan(until, SimEvent::StoreReplicated { partition, op });
            return;
        }
        self.storage.partitions[partition].replicated(op);
        self.show_entries(partition, true);
        let safe = self.storage.partitions[partition].safe_op();
        let held_back = std::mem::take(&mut self.storage.held_back[partition]);
        let (ready, rest) = held_back.into_iter().partition(|(op, ..)| *op <= safe);
        self.storage.held_back[partition] = rest;
        let ready: Vec<(u64, AskId, Answer)> = ready;
        for (_, id, answer) in ready {
            self.answer(id, answer);
        }
    }

    fn show_entries(&mut self, partition: usize, is_safe_only: bool) {
        let stored = &self.storage.partitions[partition];
        let entries = if is_safe_only { stored.safe_entries() } else { stored.entries() };
        // Only new entries, and the last known one, which must not have changed.
        let from = self.oracle.n_entries(partition).min(entries.len()).saturating_sub(1);
        for (at, entry) in entries.iter().enumerate().skip(from) {
            self.oracle.entry(partition, at, entry);
        }
    }

    fn answer(&mut self, id: AskId, answer: Answer) {
        let Some(pending) = self.storage.pending.get(&id).copied() else { return };
        let node = Node::Coordinator(pending.coordinator);
        let at = self.arrival(Node::Store, node);
        let key = (pending.coordinator, pending.partition);
        let last = self.storage.answers.entry(key).or_default();
        *last = at.max(*last);
        let at = *last;
        self.queue.plan(at, SimEvent::StoreAnswered { ask: id, answer: Box::new(answer) });
    }

    pub(super) fn on_store_answered(&mut self, ask: AskId, answer: Answer) {
        let Some(coordinator) = self.storage.asker(ask) else { return };
        if let Some(until) = self.blocked_until(Node::Store, Node::Coordinator(coordinator)) {
            let answer = Box::new(answer);
            self.queue.plan(until, SimEvent::StoreAnswered { ask, answer });
            return;
        }
        let Some(pending) = self.storage.pending.remove(&ask) else { return };
        if matches!(answer, Answer::Unknown) {
            self.break_connection(pending.coordinator, pending.partition);
        }
        self.tell(pending, answer);
    }

    pub(super) fn on_store_timed_out(&mut self, ask: AskId) {
        let Some(pending) = self.storage.pending.remove(&ask) else { return };
        self.break_connection(pending.coordinator, pending.partition);
        self.tell(pending, Answer::Unknown);
    }

    /// Breaks a connection. The outcome of its requests is unknown; those in flight may still
    /// arrive.
    pub(super) fn break_connection(&mut self, coordinator: usize, partition: usize) {
        self.storage.arrivals.remove(&(coordinator, partition));
        self.storage.answers.remove(&(coordinator, partition));
        let is_on_it = |pending: &Pending| {
            (pending.coordinator, pending.partition) == (coordinator, partition)
        };
        let waiting: Vec<AskId> = self
            .storage
            .pending
            .iter()
            .filter(|(_, pending)| is_on_it(pending))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            match self.rng.u32(..10) {
                0..4 => drop(self.storage.fates.insert(id, None)),
                4..7 => {
                    let late = self.now + span(&mut self.rng, 1, 400);
                    self.storage.fates.insert(id, Some(late));
                }
                _ => {}
            }
            if let Some(pending) = self.storage.pending.remove(&id) {
                self.tell(pending, Answer::Unknown);
            }
        }
    }

    /// Forgets the requests of a dead coordinator.
    pub(super) fn forget_asks(&mut self, coordinator: usize) {
        self.storage.pending.retain(|_, pending| pending.coordinator != coordinator);
        self.storage.arrivals.retain(|(asker, _), _| *asker != coordinator);
        self.storage.answers.retain(|(asker, _), _| *asker != coordinator);
    }

    fn tell(&mut self, pending: Pending, answer: Answer) {
        let Pending { coordinator, leadership, partition, purpose } = pending;
        if self.coordinators[coordinator].leadership == leadership {
            self.on_answer(coordinator, partition, purpose, answer);
        }
    }

    /// Stops the server for a while and restarts it without its last writes.
    pub(super) fn crash_store(&mut self) {
        let mut n_lost = 0;
        let owner_lives = self.owner_of_all_lives();
        for partition in 0..self.storage.partitions.len() {
            let stored = &mut self.storage.partitions[partition];
            n_lost += match self.storage.kind {
                Kind::Replicated => stored.fail_over(),
                Kind::Single if owner_lives => stored.lose_tail(self.now, self.rng.usize(0..=6)),
                Kind::Single => 0,
            };
            self.storage.held_back[partition].clear();
        }
        self.storage.down_until = self.now + span(&mut self.rng, 20, 800);
        self.report.n_lost_entries += u64::try_from(n_lost).unwrap_or(0);
        self.trace(&format!("the store crashes and loses {n_lost} entries"));
        for coordinator in 0..self.coordinators.len() {
            for partition in 0..self.storage.partitions.len() {
                self.break_connection(coordinator, partition);
            }
        }
    }

    /// Loses some requests in flight and delays others. The coordinator cannot tell which.
    pub(super) fn disturb_requests(&mut self) {
        let coordinator = self.rng.usize(..self.coordinators.len());
        let partition = self.rng.usize(..self.storage.partitions.len());
        if chance(&mut self.rng, 50) {
            let until = self.now + span(&mut self.rng, 1, 700);
            self.streams.block(Node::Coordinator(coordinator), Node::Store, until);
        }
        self.break_connection(coordinator, partition);
    }
}
