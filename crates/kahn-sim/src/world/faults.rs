//! Injects faults, and stops injecting them.

use std::time::Duration;

use fastrand::Rng;
use kahn_model::Timestamp;

use super::network::Node;
use super::{SimEvent, World};
use crate::queue::ms;
use crate::workload::{chance, span};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    CutStream,
    BlockLink,
    BlockStore,
    Hiccup,
    CrashStore,
    RefuseStore,
    CutReplica,
    CrashCoordinator,
    PauseCoordinator,
    CrashWorker,
    PauseWorker,
    IsolateWorker,
    StopCoordinator,
}

const KINDS: [Kind; 12] = [
    Kind::CutStream,
    Kind::BlockLink,
    Kind::BlockStore,
    Kind::Hiccup,
    Kind::CrashStore,
    Kind::RefuseStore,
    Kind::CutReplica,
    Kind::CrashCoordinator,
    Kind::PauseCoordinator,
    Kind::CrashWorker,
    Kind::PauseWorker,
    Kind::IsolateWorker,
];

/// The fault parameters of a seed.
#[derive(Debug)]
pub(crate) struct Faults {
    pub(crate) heal_at: Timestamp,
    /// The longest usual delay of a message, in milliseconds.
    pub(crate) slowness: u64,
    /// The percentage of lost requests and replies of clients.
    pub(crate) client_loss: u32,
    kinds: Vec<Kind>,
    pause: Duration,
}

impl Faults {
    pub(crate) fn new(rng: &mut Rng, has_standbys: bool) -> Self {
        let mut kinds: Vec<Kind> = KINDS.into_iter().filter(|_| chance(rng, 50)).collect();
        if has_standbys {
            kinds.push(Kind::StopCoordinator);
        }
        Self {
            heal_at: Timestamp(1_000_000) + span(rng, 4_000, 30_000),
            slowness: [1, 1, 1, 5, 30][rng.usize(..5)],
            client_loss: if chance(rng, 40) { rng.u32(1..=20) } else { 0 },
            kinds,
            pause: span(rng, 100, 4000),
        }
    }
}

impl World {
    pub(super) fn plan_faults(&mut self) {
        self.queue.plan(self.faults.heal_at, SimEvent::Heal);
        self.plan_next_fault();
    }

    fn plan_next_fault(&mut self) {
        let limit = u64::try_from(self.faults.pause.as_micros()).unwrap_or(u64::MAX);
        let at = self.now + Duration::from_micros(self.rng.u64(1000..=limit * 2));
        if at < self.faults.heal_at && !self.faults.kinds.is_empty() {
            self.queue.plan(at, SimEvent::Fault);
        }
    }

    pub(super) fn on_fault(&mut self) {
        let kind = self.faults.kinds[self.rng.usize(..self.faults.kinds.len())];
        self.report.n_faults += 1;
        self.trace(&format!("fault: {kind:?}"));
        self.inject(kind);
        self.plan_next_fault();
    }

    fn inject(&mut self, kind: Kind) {
        match kind {
            Kind::CutStream => {
                let alive = self.streams.alive();
                if !alive.is_empty() {
                    let id = alive[self.rng.usize(..alive.len())];
                    self.cut(id);
                }
            }
            Kind::BlockLink => self.block_link(),
            Kind::BlockStore => self.block_store(),
            Kind::Hiccup => self.disturb_requests(),
            Kind::CrashStore => self.crash_store(),
            Kind::RefuseStore => {
                self.storage.refusing_until = self.until(10, 3000);
            }
            Kind::CutReplica => {
                self.storage.replica_cut_until = self.until(10, 4000);
            }
            Kind::CrashCoordinator => self.inject_coordinator_crash(),
            Kind::PauseCoordinator => {
                let until = self.long_while();
                let ix = self.rng.usize(..self.coordinators.len());
                if self.coordinators[ix].is_up {
                    self.coordinators[ix].paused_until = until;
                }
            }
            Kind::CrashWorker => {
                let ix = self.rng.usize(..self.workers.len());
                if self.workers[ix].is_up {
                    self.crash_worker(ix);
                    let at = if self.rng.bool() { self.until(10, 1000) } else { self.long_while() };
                    self.queue.plan(at, SimEvent::WorkerStarts(ix));
                }
            }
            Kind::PauseWorker => {
                let ix = self.rng.usize(..self.workers.len());
                let until = self.long_while();
                if self.workers[ix].is_up {
                    self.pause_worker(ix, until);
                }
            }
            Kind::IsolateWorker => self.isolate_worker(),
            Kind::StopCoordinator => {
                let ix = self.rng.usize(..self.coordinators.len());
                if self.coordinators[ix].is_up {
                    self.stop_coordinator(ix);
                }
            }
        }
    }

    /// Crashes a coordinator, unless the live owner still has to restore what a single store lost.
    fn inject_coordinator_crash(&mut self) {
        let ix = self.rng.usize(..self.coordinators.len());
        if !self.coordinators[ix].is_up || self.lacks_safe_entries() {
            return;
        }
        self.crash_coordinator(ix);
        let at = if chance(&mut self.rng, 70) { self.until(5, 1500) } else { self.long_while() };
        self.queue.plan(at, SimEvent::CoordinatorStarts(ix));
    }

    fn block_link(&mut self) {
        let worker = Node::Worker(self.rng.usize(..self.workers.len()));
        let coordinator = Node::Coordinator(self.rng.usize(..self.coordinators.len()));
        let until = self.long_while();
        match self.rng.u32(..3) {
            0 => self.streams.block(worker, coordinator, until),
            1 => self.streams.block(coordinator, worker, until),
            _ => {
                self.streams.block(worker, coordinator, until);
                self.streams.block(coordinator, worker, until);
            }
        }
    }

    fn block_store(&mut self) {
        let coordinator = Node::Coordinator(self.rng.usize(..self.coordinators.len()));
        let until = self.until(10, 6000);
        match self.rng.u32(..3) {
            0 => self.streams.block(coordinator, Node::Store, until),
            1 => self.streams.block(Node::Store, coordinator, until),
            _ => {
                self.streams.block(coordinator, Node::Store, until);
                self.streams.block(Node::Store, coordinator, until);
            }
        }
    }

    /// Cuts a worker off from all coordinators.
    fn isolate_worker(&mut self) {
        let worker = Node::Worker(self.rng.usize(..self.workers.len()));
        let until = self.until(3_000, 25_000);
        for ix in 0..self.coordinators.len() {
            self.streams.block(worker, Node::Coordinator(ix), until);
            self.streams.block(Node::Coordinator(ix), worker, until);
        }
    }

    fn until(&mut self, from_ms: u64, to_ms: u64) -> Timestamp {
        (self.now + span(&mut self.rng, from_ms, to_ms)).min(self.faults.heal_at)
    }

    fn long_while(&mut self) -> Timestamp {
        let most = [500, 3000, 8000, 20_000][self.rng.usize(..4)];
        self.until(10, most)
    }

    /// Ends all faults.
    pub(super) fn heal(&mut self) {
        self.trace("all faults end");
        self.streams.unblock_all();
        self.storage.down_until = self.now;
        self.storage.refusing_until = self.now;
        self.storage.replica_cut_until = self.now;
        self.faults.client_loss = 0;
        self.faults.slowness = 1;
        for ix in 0..self.coordinators.len() {
            self.coordinators[ix].paused_until = self.now;
            self.queue.plan(self.now + ms(5), SimEvent::CoordinatorStarts(ix));
        }
        for ix in 0..self.workers.len() {
            self.workers[ix].paused_until = self.now;
            self.queue.plan(self.now + ms(5), SimEvent::WorkerStarts(ix));
        }
        self.lift_pauses_and_cordons();
    }
}
