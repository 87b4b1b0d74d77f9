//! Streams between workers and coordinators. They are ordered and delayed, and are sometimes cut,
//! which loses everything in flight. One end may learn of that long before the other, or never.

use std::collections::{BTreeMap, VecDeque};

use kahn_core::{Grant, StopReason};
use kahn_model::{Admission, BootId, Timestamp, Token};
use kahn_worker_core::{Inventory, Report};

use super::{SimEvent, World};
use crate::queue::{ms, us};
use crate::workload::{chance, span};

/// Identifies a stream, and the session on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId(pub(crate) u64);

/// An end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Coordinator(usize),
    Worker(usize),
    Client(usize),
    Store,
}

/// A message from a worker.
#[derive(Clone, Debug)]
pub(crate) enum Up {
    Hello(BootId, Box<Inventory>),
    Reports(Vec<Report>),
    Heartbeat(u64),
    Admission(Admission),
    Draining,
    End,
}

/// A message to a worker.
#[derive(Clone, Debug)]
pub(crate) enum Down {
    Welcome,
    Lease(Box<Grant>),
    Stop(Token, StopReason),
    Recall(Token),
    Acknowledge(Token),
    HeartbeatNoted(u64),
    Drain,
    End,
}

/// One direction of a stream.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    queue: VecDeque<(Timestamp, T)>,
    last: Timestamp,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), last: Timestamp::ZERO }
    }
}

impl<T> Lane<T> {
    /// Queues a message that may arrive at `at`. Returns when to deliver it if no delivery is
    /// planned.
    fn push(&mut self, at: Timestamp, message: T) -> Option<Timestamp> {
        self.last = self.last.max(at);
        self.queue.push_back((self.last, message));
        (self.queue.len() == 1).then_some(self.last)
    }
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) worker: usize,
    pub(crate) coordinator: usize,
    pub(crate) incarnation: u64,
    /// The leadership that accepted it. The worker's first message is sent after that.
    pub(crate) leadership: u64,
    pub(crate) is_open_at_worker: bool,
    pub(crate) is_open_at_coordinator: bool,
    /// Whether the stream is cut, regardless of what its ends believe.
    is_cut: bool,
    up: Lane<Up>,
    down: Lane<Down>,
}

/// All streams, and the links that carry them.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    all: BTreeMap<StreamId, Stream>,
    next: u64,
    /// Until when messages in one direction are blocked.
    blocked: BTreeMap<(Node, Node), Timestamp>,
}

impl Streams {
    pub(crate) fn get(&self, id: StreamId) -> Option<&Stream> {
        self.all.get(&id)
    }

    /// Returns whether everything sent on a stream has been received. A worker repeats what it
    /// accepts only when it is welcomed.
    pub(crate) fn is_quiet(&self, id: StreamId) -> bool {
        self.all.get(&id).is_some_and(|stream| {
            let is_open = stream.is_open_at_worker && stream.is_open_at_coordinator;
            is_open && !stream.is_cut && stream.up.queue.is_empty() && stream.down.queue.is_empty()
        })
    }

    /// Returns the streams that at least one end believes to be open.
    pub(crate) fn alive(&self) -> Vec<StreamId> {
        let is_alive = |s: &Stream| s.is_open_at_coordinator || s.is_open_at_worker;
        self.all.iter().filter(|(_, stream)| is_alive(stream)).map(|(id, _)| *id).collect()
    }

    pub(crate) fn block(&mut self, from: Node, to: Node, until: Timestamp) {
        let at = self.blocked.entry((from, to)).or_default();
        *at = (*at).max(until);
    }

    pub(crate) fn unblock_all(&mut self) {
        self.blocked.clear();
    }

    fn forget_if_closed(&mut self, id: StreamId) {
        let is_closed = |s: &Stream| !s.is_open_at_coordinator && !s.is_open_at_worker;
        if self.all.get(&id).is_some_and(is_closed) {
            self.all.remove(&id);
        }
    }
}

impl World {
    /// Returns until when messages from one end to another are blocked.
    pub(super) fn blocked_until(&self, from: Node, to: Node) -> Option<Timestamp> {
        self.streams.blocked.get(&(from, to)).copied().filter(|until| *until > self.now)
    }

    /// Returns when a message that is sent now arrives.
    pub(super) fn arrival(&mut self, from: Node, to: Node) -> Timestamp {
        let slowness = self.faults.slowness;
        let delay = if chance(&mut self.rng, 5) {
            span(&mut self.rng, 0, 20 * slowness)
        } else {
            us(self.rng.u64(50..=1000 * slowness))
        };
        self.blocked_until(from, to).unwrap_or(self.now) + delay
    }

    pub(super) fn open_stream(&mut self, worker: usize, coordinator: usize) -> StreamId {
        self.streams.next += 1;
        let id = StreamId(self.streams.next);
        let stream = Stream {
            worker,
            coordinator,
            incarnation: self.coordinators[coordinator].incarnation,
            leadership: self.coordinators[coordinator].leadership,
            is_open_at_worker: true,
            is_open_at_coordinator: true,
            is_cut: false,
            up: Lane::default(),
            down: Lane::default(),
        };
        self.streams.all.insert(id, stream);
        id
    }

    pub(super) fn send_up(&mut self, id: StreamId, message: Up) {
        let Some((worker, coordinator)) = self.ends(id) else { return };
        let at = self.arrival(Node::Worker(worker), Node::Coordinator(coordinator));
        let stream = self.streams.all.get_mut(&id).expect("invariant: it has ends");
        if stream.is_cut {
            return;
        }
        if let Some(at) = stream.up.push(at, message) {
            self.queue.plan(at, SimEvent::DeliverUp(id));
        }
    }

    pub(super) fn send_down(&mut self, id: StreamId, message: Down) {
        let Some((worker, coordinator)) = self.ends(id) else { return };
        let at = self.arrival(Node::Coordinator(coordinator), Node::Worker(worker));
        let stream = self.streams.all.get_mut(&id).expect("invariant: it has ends");
        if stream.is_cut {
            return;
        }
        if let Some(at) = stream.down.push(at, message) {
            self.queue.plan(at, SimEvent::DeliverDown(id));
        }
    }

    fn ends(&self, id: StreamId) -> Option<(usize, usize)> {
        self.streams.get(id).map(|stream| (stream.worker, stream.coordinator))
    }

    pub(super) fn deliver_up(&mut self, id: StreamId) {
        let Some((worker, coordinator)) = self.ends(id) else { return };
        let blocked = self.blocked_until(Node::Worker(worker), Node::Coordinator(coordinator));
        if let Some(until) = blocked {
            self.queue.plan(until, SimEvent::DeliverUp(id));
            return;
        }
        let stream = self.streams.all.get_mut(&id).expect("invariant: it has ends");
        let Some((_, message)) = stream.up.queue.pop_front() else { return };
        if let Some((at, _)) = stream.up.queue.front() {
            self.queue.plan((*at).max(self.now), SimEvent::DeliverUp(id));
        }
        let is_there = self.coordinators[coordinator].is_incarnation(stream.incarnation);
        if stream.is_open_at_coordinator && is_there {
            self.on_up(id, message);
        }
    }

    pub(super) fn deliver_down(&mut self, id: StreamId) {
        let Some((worker, coordinator)) = self.ends(id) else { return };
        let blocked = self.blocked_until(Node::Coordinator(coordinator), Node::Worker(worker));
        if let Some(until) = blocked {
            self.queue.plan(until, SimEvent::DeliverDown(id));
            return;
        }
        let stream = self.streams.all.get_mut(&id).expect("invariant: it has ends");
        let Some((_, message)) = stream.down.queue.pop_front() else { return };
        if let Some((at, _)) = stream.down.queue.front() {
            self.queue.plan((*at).max(self.now), SimEvent::DeliverDown(id));
        }
        if stream.is_open_at_worker {
            self.on_down(id, message);
        }
    }

    /// The coordinator closes a stream gracefully.
    pub(super) fn close_at_coordinator(&mut self, id: StreamId) {
        self.send_down(id, Down::End);
        if let Some(stream) = self.streams.all.get_mut(&id) {
            stream.is_open_at_coordinator = false;
        }
        self.streams.forget_if_closed(id);
    }

    /// The worker closes a stream gracefully.
    pub(super) fn close_at_worker(&mut self, id: StreamId) {
        self.send_up(id, Up::End);
        if let Some(stream) = self.streams.all.get_mut(&id) {
            stream.is_open_at_worker = false;
        }
        self.streams.forget_if_closed(id);
    }

    /// The coordinator's end is lost; the worker may learn of it.
    pub(super) fn lose_coordinator_end(&mut self, id: StreamId) {
        let Some(stream) = self.streams.all.get_mut(&id) else { return };
        stream.is_open_at_coordinator = false;
        let keep = self.rng.usize(0..=stream.down.queue.len());
        stream.down.queue.truncate(keep.max(stream.down.queue.len().min(1)));
        let last = stream.down.last.max(self.now);
        if chance(&mut self.rng, 85) {
            self.queue.plan(last + span(&mut self.rng, 0, 60), SimEvent::BrokenAtWorker(id));
        }
        self.streams.forget_if_closed(id);
    }

    /// The worker's end is lost; the coordinator may learn of it.
    pub(super) fn lose_worker_end(&mut self, id: StreamId) {
        let Some(stream) = self.streams.all.get_mut(&id) else { return };
        stream.is_open_at_worker = false;
        let keep = self.rng.usize(0..=stream.up.queue.len());
        stream.up.queue.truncate(keep.max(stream.up.queue.len().min(1)));
        let last = stream.up.last.max(self.now);
        if chance(&mut self.rng, 85) {
            self.queue.plan(last + span(&mut self.rng, 0, 60), SimEvent::BrokenAtCoordinator(id));
        }
        self.streams.forget_if_closed(id);
    }

    /// Cuts a stream: everything in flight is lost, and the ends learn of it at different times.
    pub(super) fn cut(&mut self, id: StreamId) {
        let Some(stream) = self.streams.all.get_mut(&id) else { return };
        stream.is_cut = true;
        stream.up.queue.clear();
        stream.down.queue.clear();
        let slow = if chance(&mut self.rng, 20) { 8000 } else { 50 };
        let at_worker = self.now + span(&mut self.rng, 0, slow);
        let at_coordinator = self.now + span(&mut self.rng, 0, slow) + ms(1);
        self.queue.plan(at_worker, SimEvent::BrokenAtWorker(id));
        self.queue.plan(at_coordinator, SimEvent::BrokenAtCoordinator(id));
    }

    pub(super) fn broken_at_worker(&mut self, id: StreamId) {
        let Some(stream) = self.streams.all.get_mut(&id) else { return };
        if stream.is_open_at_worker {
            stream.is_open_at_worker = false;
            let worker = stream.worker;
            self.worker_lost_stream(worker, id);
        }
        self.streams.forget_if_closed(id);
    }

    pub(super) fn broken_at_coordinator(&mut self, id: StreamId) {
        let Some(stream) = self.streams.all.get_mut(&id) else { return };
        if stream.is_open_at_coordinator {
            stream.is_open_at_coordinator = false;
            let (coordinator, incarnation) = (stream.coordinator, stream.incarnation);
            if self.coordinators[coordinator].is_incarnation(incarnation) {
                self.coordinator_lost_stream(coordinator, id);
            }
        }
        self.streams.forget_if_closed(id);
    }
}
