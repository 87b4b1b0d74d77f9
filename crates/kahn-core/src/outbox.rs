//! Commit before act: changes are collected into batches, and commands wait until the changes they
//! depend on are durable.
//!
//! It performs no IO, so that the simulator uses the same order of operations as production. While
//! one batch is in flight, the next one is collected, without a timer. At most [`IN_FLIGHT_MAX`]
//! batches of a partition are in flight.

use std::collections::VecDeque;

use kahn_model::{Partition, Timestamp};

use crate::change::Change;
use crate::log::IN_FLIGHT_MAX;

/// Changes of one partition that become durable together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The partition.
    pub partition: Partition,
    /// The number of the batch within the partition and the term, from 1.
    pub number: u64,
    /// The changes with the times at which they were decided.
    pub changes: Vec<(Timestamp, Change)>,
}

#[derive(Debug, Default)]
struct Lane {
    gathering: Vec<(Timestamp, Change)>,
    /// Ticket of the oldest change being collected.
    gathering_since: u64,
    /// Batches in flight: number and ticket of the oldest change.
    in_flight: VecDeque<(u64, u64)>,
    n_closed: u64,
}

impl Lane {
    fn oldest(&self) -> Option<u64> {
        let gathering = (!self.gathering.is_empty()).then_some(self.gathering_since);
        self.in_flight.front().map(|(_, ticket)| *ticket).or(gathering)
    }
}

/// Holds commands of type `C` until the changes before them are durable.
#[derive(Debug)]
pub struct Outbox<C> {
    lanes: Vec<Lane>,
    ticket: u64,
    waiting: VecDeque<(u64, C)>,
}

impl<C> Outbox<C> {
    /// Creates an empty outbox for this many partitions.
    #[must_use]
    pub fn new(partitions: u16) -> Self {
        let lanes = (0..partitions).map(|_| Lane::default()).collect();
        Self { lanes, ticket: 0, waiting: VecDeque::new() }
    }

    /// Adds the changes of one step, decided at `at`.
    pub fn accept(&mut self, at: Timestamp, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        self.ticket += 1;
        let partitions = u16::try_from(self.lanes.len()).expect("invariant: made from a u16");
        for change in changes {
            let partition = change.partition(partitions);
            let lane = &mut self.lanes[usize::from(partition.0)];
            if lane.gathering.is_empty() {
                lane.gathering_since = self.ticket;
            }
            lane.gathering.push((at, change));
        }
    }

    /// Holds `command` until everything accepted so far is durable.
    pub fn hold(&mut self, command: C) {
        self.waiting.push_back((self.ticket, command));
    }

    /// Returns the next batch of each partition that may be sent now.
    pub fn take_batches(&mut self) -> Vec<Batch> {
        let mut out = Vec::new();
        for (at, lane) in (0..).zip(&mut self.lanes) {
            if lane.gathering.is_empty() || lane.in_flight.len() >= IN_FLIGHT_MAX {
                continue;
            }
            lane.n_closed += 1;
            lane.in_flight.push_back((lane.n_closed, lane.gathering_since));
            out.push(Batch {
                partition: Partition(at),
                number: lane.n_closed,
                changes: std::mem::take(&mut lane.gathering),
            });
        }
        out
    }

    /// Records that a partition's batches up to `number` are durable.
    pub fn committed(&mut self, partition: Partition, number: u64) {
        let lane = &mut self.lanes[usize::from(partition.0)];
        while lane.in_flight.front().is_some_and(|(first, _)| *first <= number) {
            lane.in_flight.pop_front();
        }
    }

    /// Returns the next command whose changes are all durable.
    pub fn release(&mut self) -> Option<C> {
        let oldest = self.lanes.iter().filter_map(Lane::oldest).min();
        let (ticket, _) = self.waiting.front()?;
        if oldest.is_some_and(|oldest| oldest <= *ticket) {
            return None;
        }
        self.waiting.pop_front().map(|(_, command)| command)
    }

    /// Returns all commands whose changes are all durable.
    pub fn release_all(&mut self) -> Vec<C> {
        let oldest = self.lanes.iter().filter_map(Lane::oldest).min().unwrap_or(u64::MAX);
        let n = self.waiting.partition_point(|(ticket, _)| *ticket < oldest);
        self.waiting.drain(..n).map(|(_, command)| command).collect()
    }

    /// Returns the number of waiting commands.
    #[must_use]
    pub fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether all changes accepted are durable.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.oldest().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kahn_model::RunId;

    fn change(run: u128) -> Change {
        Change::RunPaused { run: RunId::new(uuid(run)) }
    }

    fn uuid(n: u128) -> kahn_model::Uuid {
        kahn_model::Uuid::from_u128(n)
    }

    #[test]
    fn a_command_waits_for_every_change_before_it_and_for_none_after_it() {
        let mut outbox = Outbox::new(1);
        outbox.hold("first");
        outbox.accept(Timestamp(1), vec![change(1)]);
        outbox.hold("second");
        assert_eq!(outbox.release_all(), ["first"]);
        let [batch] = outbox.take_batches().try_into().unwrap();
        outbox.accept(Timestamp(2), vec![change(2)]);
        outbox.hold("third");
        assert_eq!(outbox.release(), None);
        outbox.committed(batch.partition, batch.number);
        assert_eq!(outbox.release_all(), ["second"]);
        let [batch] = outbox.take_batches().try_into().unwrap();
        outbox.committed(batch.partition, batch.number);
        assert_eq!(outbox.release(), Some("third"));
        assert!(outbox.is_idle());
    }

    #[test]
    fn at_most_two_batches_of_a_partition_are_under_way() {
        let mut outbox: Outbox<()> = Outbox::new(1);
        for n in 0..3 {
            outbox.accept(Timestamp(n), vec![change(u128::from(n))]);
            assert_eq!(outbox.take_batches().len(), usize::from(n < 2));
        }
        outbox.committed(Partition(0), 1);
        assert_eq!(outbox.take_batches()[0].number, 3);
    }

    #[test]
    fn a_slow_partition_holds_back_what_came_after_its_changes() {
        let mut outbox = Outbox::new(2);
        let of = |partition| {
            (0..).find(|n| RunId::new(uuid(*n)).partition(2) == Partition(partition)).unwrap()
        };
        outbox.accept(Timestamp(1), vec![change(of(0))]);
        outbox.accept(Timestamp(2), vec![change(of(1))]);
        outbox.hold("both");
        let batches = outbox.take_batches();
        assert_eq!(batches.len(), 2);
        outbox.committed(Partition(1), 1);
        assert_eq!(outbox.release(), None);
        outbox.committed(Partition(0), 1);
        assert_eq!(outbox.release(), Some("both"));
    }
}
