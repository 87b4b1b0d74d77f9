//! Standbys follow the logs, and take over from leaders that hand over or crash.

use kahn_core::Core;
use kahn_model::Timestamp;

use super::super::comparing::{archived_runs, partition_runs};
use super::super::storage::{Ask, Purpose};
use super::super::{SimEvent, World};
use super::Phase;
use crate::driver::{Loaded, recover};
use crate::workload::span;

impl World {
    pub(super) fn plan_follow(&mut self, coordinator: usize) {
        let at = self.now + span(&mut self.rng, 20, 400);
        let incarnation = self.coordinators[coordinator].incarnation;
        self.queue.plan(at, SimEvent::Follow { coordinator, incarnation });
    }

    /// Reads what was appended to the logs, if this coordinator is a standby.
    pub(in crate::world) fn on_follow(&mut self, ix: usize, incarnation: u64) {
        if !self.coordinators[ix].is_incarnation(incarnation) {
            return;
        }
        if matches!(self.coordinators[ix].phase, Phase::Standby) {
            for partition in 0..self.storage.n_partitions() {
                let Some(follower) = &self.coordinators[ix].follower else { break };
                let after_seq = follower.head(partition).seq;
                self.ask(ix, partition, Ask::Read { after_seq }, Purpose::Read);
            }
        }
        self.plan_follow(ix);
    }

    /// Stops a coordinator in an orderly way. A leader hands over once everything is durable.
    pub(in crate::world) fn stop_coordinator(&mut self, ix: usize) {
        self.coordinators[ix].is_closing = true;
        self.hand_over_if_idle(ix);
    }

    pub(super) fn hand_over_if_idle(&mut self, ix: usize) {
        let coordinator = &self.coordinators[ix];
        if !coordinator.is_closing || (coordinator.is_leading() && !coordinator.is_idle()) {
            return;
        }
        // Only the owner can restore what a single server lost, and it asks before it releases.
        if coordinator.is_leading() && self.lacks_safe_entries() {
            return;
        }
        self.trace(&format!("coordinator {ix} hands over"));
        // The first partition last: its owner is the leader.
        for partition in (0..self.storage.n_partitions()).rev() {
            let Some(leader) = self.coordinators[ix].leadership_ref() else { break };
            let term = leader.term(partition);
            self.ask(ix, partition, Ask::Release { term }, Purpose::Release);
        }
        self.end_leadership(ix, false);
        self.coordinators[ix].is_up = false;
        let at = self.now + span(&mut self.rng, 5, 3000);
        self.queue.plan(at, SimEvent::CoordinatorStarts(ix));
    }

    /// Returns the state of a new leader with its latest time: the copy of a standby if the logs
    /// continue it, which must then not differ from one that is built from the checkpoints.
    pub(super) fn take_over_state(&mut self, ix: usize, loaded: &[Loaded]) -> (Core, Timestamp) {
        let cold = recover(self.settings.clone(), loaded);
        let follower = self.coordinators[ix].follower.take();
        let Some((warm, latest)) = follower.and_then(|follower| follower.finish(loaded)) else {
            return cold;
        };
        for partition in 0..loaded.len() {
            let is_same = partition_runs(&warm, partition) == partition_runs(&cold.0, partition)
                && archived_runs(&warm, partition) == archived_runs(&cold.0, partition);
            if !is_same {
                self.oracle.object("I18", "a standby's state is not that of the log");
            }
        }
        self.report.n_warm_takeovers += 1;
        (warm, latest)
    }
}
