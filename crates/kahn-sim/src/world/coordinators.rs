//! Coordinator processes: they stand by, campaign, load, lead and crash.

mod standbys;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kahn_core::Core;
use kahn_core::log::Reply as LogReply;
use kahn_model::Timestamp;

use super::comparing::{archived_runs, partition_runs};
use super::network::StreamId;
use super::storage::{Answer, Ask, Purpose};
use super::{SimEvent, WAITING_MAX, World};
use crate::driver::{
    Clock, EXACT, End, Follower, Input, Leadership, Loaded, Next, RENEW_EVERY, recover,
};
use crate::mutation::Mutation;
use crate::workload::{chance, span};

/// The interval between two checkpoints. It is longer than the span of writes that a single store
/// may lose, so that memory freed up to the last checkpoint but one is never needed again.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(2500);

/// The phase of a coordinator process.
#[derive(Debug)]
enum Phase {
    Standby,
    /// Acquires one partition after the other. The first decides who leads.
    Campaigning {
        nonce: u64,
        loaded: Vec<Loaded>,
        n_acquired: usize,
    },
    Leading(Box<Leadership>),
}

/// One coordinator process.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) incarnation: u64,
    pub(crate) is_up: bool,
    pub(crate) paused_until: Timestamp,
    /// The number of the campaign or leadership. Answers to earlier ones are ignored.
    pub(crate) leadership: u64,
    phase: Phase,
    pub(super) nonce: u64,
    /// The error of its wall clock.
    wall_error: i64,
    pub(super) inbox: VecDeque<Input>,
    turn_at: Option<Timestamp>,
    /// Accepted streams, whether or not the worker has introduced itself.
    pub(super) streams: BTreeSet<StreamId>,
    /// The latest stream of each worker. Messages on an earlier one do not count as heartbeats.
    pub(super) latest: BTreeMap<usize, StreamId>,
    /// Partitions whose next append is delayed.
    waiting: BTreeSet<usize>,
    /// When each partition's last checkpoint was requested, and its sequence number.
    checkpoints: Vec<(Timestamp, u64)>,
    /// A warm copy of the state.
    follower: Option<Follower>,
    /// The rate of its clock, in thousandths.
    clock_rate: u32,
    /// Whether it hands over as soon as everything is durable.
    is_closing: bool,
}

impl Coordinator {
    pub(crate) fn down() -> Self {
        Self {
            incarnation: 0,
            is_up: false,
            paused_until: Timestamp::ZERO,
            leadership: 0,
            phase: Phase::Standby,
            nonce: 0,
            wall_error: 0,
            inbox: VecDeque::new(),
            turn_at: None,
            streams: BTreeSet::new(),
            latest: BTreeMap::new(),
            waiting: BTreeSet::new(),
            checkpoints: Vec::new(),
            follower: None,
            clock_rate: EXACT,
            is_closing: false,
        }
    }

    pub(crate) fn is_incarnation(&self, incarnation: u64) -> bool {
        self.is_up && self.incarnation == incarnation
    }

    pub(crate) fn is_leading(&self) -> bool {
        self.is_up && matches!(self.phase, Phase::Leading(_))
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.leadership_ref().is_some_and(Leadership::is_idle)
    }

    pub(crate) fn core(&self) -> Option<&Core> {
        self.leadership_ref().map(Leadership::core)
    }

    fn leadership_ref(&self) -> Option<&Leadership> {
        match &self.phase {
            Phase::Leading(leadership) => Some(leadership),
            Phase::Standby | Phase::Campaigning { .. } => None,
        }
    }

    fn leadership_mut(&mut self) -> Option<&mut Leadership> {
        match &mut self.phase {
            Phase::Leading(leadership) => Some(leadership),
            Phase::Standby | Phase::Campaigning { .. } => None,
        }
    }
}

impl World {
    /// Returns the coordinator that leads. If several believe that they lead, returns the latest.
    pub(super) fn leader(&self) -> Option<usize> {
        (0..self.coordinators.len())
            .filter(|ix| self.coordinators[*ix].is_leading())
            .max_by_key(|ix| self.coordinators[*ix].leadership)
    }

    pub(super) fn is_leading_as(&self, nonce: u64) -> bool {
        self.coordinators.iter().any(|one| one.is_leading() && one.nonce == nonce)
    }

    pub(super) fn start_coordinator(&mut self, ix: usize) {
        if self.coordinators[ix].is_up {
            return;
        }
        let incarnation = self.coordinators[ix].incarnation + 1;
        let hour = 3_600_000_000;
        let wall_error = if chance(&mut self.rng, 50) { 0 } else { self.rng.i64(-hour..=hour) };
        self.coordinators[ix] =
            Coordinator { incarnation, is_up: true, wall_error, ..Coordinator::down() };
        if self.has_standbys {
            self.coordinators[ix].clock_rate = self.rng.u32(950..=1050);
            self.coordinators[ix].follower = Some(Follower::new(self.settings.clone()));
            self.plan_follow(ix);
        }
        self.plan_campaign(ix);
    }

    /// Crashes the process, which loses its memory. Messages that it has sent may still arrive.
    pub(super) fn crash_coordinator(&mut self, ix: usize) {
        self.end_leadership(ix, true);
        self.forget_asks(ix);
        self.coordinators[ix].is_up = false;
        self.coordinators[ix].paused_until = Timestamp::ZERO;
    }

    fn plan_campaign(&mut self, coordinator: usize) {
        let at = self.now + span(&mut self.rng, 1, 400);
        let incarnation = self.coordinators[coordinator].incarnation;
        self.queue.plan(at, SimEvent::Campaign { coordinator, incarnation });
    }

    pub(super) fn campaign(&mut self, ix: usize, incarnation: u64) {
        let is_free = matches!(self.coordinators[ix].phase, Phase::Standby);
        if !self.coordinators[ix].is_incarnation(incarnation) || !is_free {
            return;
        }
        self.next_leadership += 1;
        let nonce = self.rng.u64(1..);
        let coordinator = &mut self.coordinators[ix];
        coordinator.leadership = self.next_leadership;
        coordinator.nonce = nonce;
        coordinator.phase = Phase::Campaigning { nonce, loaded: Vec::new(), n_acquired: 0 };
        let steal = self.knows_owner_is_gone(ix);
        let purpose = Purpose::Acquire { sent_at: self.now };
        self.ask(ix, 0, Ask::Acquire { nonce, steal }, purpose);
    }

    /// Returns whether the owner's process is known to be dead, so that its lease need not expire.
    /// A dead process refuses connections.
    fn knows_owner_is_gone(&mut self, asker: usize) -> bool {
        let Some(holder) = self.storage.partition(0).holder() else { return false };
        let lives = |c: &Coordinator| c.is_up && c.nonce == holder;
        let is_gone = !self.coordinators.iter().any(lives);
        is_gone && asker < self.coordinators.len() && chance(&mut self.rng, 50)
    }

    pub(super) fn on_answer(
        &mut self,
        ix: usize,
        partition: usize,
        purpose: Purpose,
        answer: Answer,
    ) {
        match (purpose, answer) {
            (Purpose::Append { send }, answer) => {
                let reply = match answer {
                    Answer::Append(reply) => reply,
                    Answer::Refused => LogReply::Refused,
                    _ => LogReply::Unknown,
                };
                self.on_append_reply(ix, partition, send, reply);
            }
            (Purpose::Renew { probe, sent_at }, Answer::Renewed(Some(head))) => {
                let Some(leadership) = self.coordinators[ix].leadership_mut() else { return };
                let next = leadership.on_renewed(partition, sent_at, probe, head);
                self.after_verdict(ix, partition, next);
                self.plan_turn(ix, self.now);
            }
            (Purpose::Renew { .. }, Answer::Renewed(None)) => self.depose(ix, End::Fenced),
            (Purpose::Renew { .. }, _) => {}
            (Purpose::Acquire { sent_at }, Answer::Acquired(Some((term, head)))) => {
                let ask = Ask::Load { term, head, asked_at: sent_at };
                self.ask(ix, partition, ask, Purpose::Load);
            }
            (Purpose::Load, Answer::Loaded(loaded)) => self.on_loaded(ix, *loaded),
            (Purpose::Acquire { .. } | Purpose::Load, _) => {
                self.coordinators[ix].phase = Phase::Standby;
                self.plan_campaign(ix);
            }
            (Purpose::Checkpoint { seq }, Answer::Checkpointed(true)) => {
                if let Some(leadership) = self.coordinators[ix].leadership_mut() {
                    leadership.on_checkpointed(partition, seq);
                }
            }
            (Purpose::Read, Answer::Read(page)) => {
                if let Some(follower) = &mut self.coordinators[ix].follower {
                    follower.read(partition, *page);
                }
            }
            (Purpose::Checkpoint { .. } | Purpose::Read | Purpose::Release, _) => {}
        }
    }

    fn on_loaded(&mut self, ix: usize, one: Loaded) {
        let n_partitions = self.storage.n_partitions();
        let Phase::Campaigning { nonce, loaded, n_acquired } = &mut self.coordinators[ix].phase
        else {
            return;
        };
        loaded.push(one);
        *n_acquired += 1;
        let (nonce, next) = (*nonce, *n_acquired);
        if next < n_partitions {
            let purpose = Purpose::Acquire { sent_at: self.now };
            self.ask(ix, next, Ask::Acquire { nonce, steal: true }, purpose);
            return;
        }
        let loaded = std::mem::take(loaded);
        self.begin_leadership(ix, &loaded);
    }

    fn begin_leadership(&mut self, ix: usize, loaded: &[Loaded]) {
        let wall = self.now.0 + 7_200_000_000;
        let wall = Timestamp(wall.saturating_add_signed(self.coordinators[ix].wall_error));
        let (core, latest) = self.take_over_state(ix, loaded);
        let origin = wall.max(latest + Duration::from_micros(1));
        let clock = Clock::new(self.now, origin, self.coordinators[ix].clock_rate);
        let leadership = Leadership::begin(core, loaded, clock, self.options.mutation);
        self.oracle.began(leadership.term(0), clock);
        self.report.n_terms += 1;
        let coordinator = &mut self.coordinators[ix];
        coordinator.phase = Phase::Leading(Box::new(leadership));
        coordinator.inbox.clear();
        coordinator.waiting.clear();
        coordinator.turn_at = None;
        coordinator.checkpoints = loaded.iter().map(|one| (self.now, one.head.seq)).collect();
        let leadership = coordinator.leadership;
        self.check_recovery(loaded);
        self.plan_turn(ix, self.now);
        self.queue.plan(self.now, SimEvent::Renew { coordinator: ix, leadership });
        self.plan_archiving(ix);
    }

    /// Checks that the state of a new term is exactly what was safe when it was loaded.
    fn check_recovery(&mut self, loaded: &[Loaded]) {
        let is_current = loaded.iter().enumerate().all(|(partition, one)| {
            usize::try_from(one.head.seq) == Ok(self.oracle.n_entries(partition))
        });
        if !is_current || !chance(&mut self.rng, 50) {
            return;
        }
        let (core, _) = recover(self.settings.clone(), loaded);
        for partition in 0..loaded.len() {
            let (runs, archived) =
                (partition_runs(&core, partition), archived_runs(&core, partition));
            self.compare(runs, archived, partition);
        }
    }

    pub(super) fn on_renew_due(&mut self, ix: usize, leadership: u64) {
        if self.coordinators[ix].leadership != leadership || !self.coordinators[ix].is_leading() {
            return;
        }
        for partition in 0..self.storage.n_partitions() {
            let Some(leader) = self.coordinators[ix].leadership_ref() else { return };
            let (term, probe) = (leader.term(partition), leader.probe(partition));
            let purpose = Purpose::Renew { probe, sent_at: self.now };
            self.ask(ix, partition, Ask::Renew { term }, purpose);
        }
        self.queue.plan(self.now + RENEW_EVERY, SimEvent::Renew { coordinator: ix, leadership });
    }

    pub(super) fn plan_turn(&mut self, ix: usize, at: Timestamp) {
        let coordinator = &mut self.coordinators[ix];
        if coordinator.turn_at.is_some_and(|planned| planned <= at) {
            return;
        }
        coordinator.turn_at = Some(at);
        let leadership = coordinator.leadership;
        self.queue.plan(at, SimEvent::Turn { coordinator: ix, leadership });
    }

    pub(super) fn on_turn(&mut self, ix: usize, leadership: u64) {
        let (now, mutation) = (self.now, self.options.mutation);
        let coordinator = &mut self.coordinators[ix];
        if coordinator.leadership != leadership || coordinator.turn_at.is_none_or(|at| at > now) {
            return;
        }
        coordinator.turn_at = None;
        let inputs = std::mem::take(&mut coordinator.inbox);
        let Some(leader) = coordinator.leadership_mut() else { return };
        leader.turn(now, inputs);
        if mutation == Some(Mutation::ActBeforeCommit) {
            leader.believe_all_durable();
        }
        if leader.n_waiting() > WAITING_MAX {
            self.oracle.object("I16", "the outbox grows without bound");
        }
        self.release(ix);
        self.send_appends(ix);
        let Some(leader) = self.coordinators[ix].leadership_ref() else { return };
        if chance(&mut self.rng, 6) {
            let findings = leader.core().audit();
            if let Some(finding) = findings.first() {
                self.oracle.object("I13", finding.clone());
            }
        }
        // While the lease is unconfirmed, the next renewal triggers the next turn.
        if let (Some(at), true) = (leader.next_turn(now), leader.is_sure(now)) {
            self.plan_turn(ix, at);
        }
        self.hand_over_if_idle(ix);
    }

    fn release(&mut self, ix: usize) {
        let Some(leader) = self.coordinators[ix].leadership_mut() else { return };
        for output in leader.release(self.now) {
            self.carry_out(ix, output);
        }
    }

    fn send_appends(&mut self, ix: usize) {
        for partition in 0..self.storage.n_partitions() {
            while !self.coordinators[ix].waiting.contains(&partition) {
                let Some(leader) = self.coordinators[ix].leadership_mut() else { return };
                let Some(append) = leader.next_send(partition) else { break };
                let (term, send) = (leader.term(partition), append.send);
                self.ask(ix, partition, Ask::Append { term, append }, Purpose::Append { send });
            }
        }
    }

    pub(super) fn on_wait_over(&mut self, ix: usize, leadership: u64, partition: usize) {
        if self.coordinators[ix].leadership == leadership {
            self.coordinators[ix].waiting.remove(&partition);
            self.send_appends(ix);
        }
    }

    fn on_append_reply(&mut self, ix: usize, partition: usize, send: u64, reply: LogReply) {
        let Some(leader) = self.coordinators[ix].leadership_mut() else { return };
        let next = leader.on_append_reply(partition, send, reply);
        self.after_verdict(ix, partition, next);
    }

    fn after_verdict(&mut self, ix: usize, partition: usize, next: Result<Next, End>) {
        match next {
            Ok(Next::Now) => {
                self.release(ix);
                self.send_appends(ix);
                self.checkpoint_now_and_then(ix, partition);
                self.hand_over_if_idle(ix);
            }
            Ok(Next::AfterWait) => {
                self.coordinators[ix].waiting.insert(partition);
                let leadership = self.coordinators[ix].leadership;
                let at = self.now + span(&mut self.rng, 5, 100);
                let coordinator = ix;
                self.queue.plan(at, SimEvent::WaitOver { coordinator, leadership, partition });
            }
            Err(end) => self.depose(ix, end),
        }
    }

    fn checkpoint_now_and_then(&mut self, ix: usize, partition: usize) {
        let coordinator = &self.coordinators[ix];
        let (last_at, last_seq) = coordinator.checkpoints[partition];
        if self.now < last_at + CHECKPOINT_EVERY {
            return;
        }
        let Some(leader) = coordinator.leadership_ref() else { return };
        let (term, Some((seq, snapshot))) = (leader.term(partition), leader.snapshot(partition))
        else {
            return;
        };
        if seq == last_seq {
            return;
        }
        self.coordinators[ix].checkpoints[partition] = (self.now, seq);
        let is_owner = self.storage.partition(partition).term() == Some(term);
        if is_owner {
            self.compare_with_ledger(ix, partition);
        }
        let ask = Ask::Checkpoint { term, seq, snapshot: Arc::new(snapshot) };
        self.ask(ix, partition, ask, Purpose::Checkpoint { seq });
    }

    /// Ends a leadership: drops its state and closes its streams.
    fn depose(&mut self, ix: usize, end: End) {
        if let End::Diverged(head) = end {
            self.oracle.object("I10", format!("the log at {head} is not that of its owner"));
        }
        self.trace(&format!("coordinator {ix} is deposed: {end:?}"));
        self.end_leadership(ix, false);
        self.plan_campaign(ix);
    }

    fn end_leadership(&mut self, ix: usize, is_crash: bool) {
        self.next_leadership += 1;
        let coordinator = &mut self.coordinators[ix];
        coordinator.leadership = self.next_leadership;
        coordinator.phase = Phase::Standby;
        coordinator.nonce = 0;
        if self.has_standbys {
            coordinator.follower = Some(Follower::new(self.settings.clone()));
        }
        coordinator.inbox.clear();
        coordinator.turn_at = None;
        for stream in std::mem::take(&mut coordinator.streams) {
            if is_crash {
                self.lose_coordinator_end(stream);
            } else {
                self.close_at_coordinator(stream);
            }
        }
    }
}
