//! The ready set: tasks that may be leased now, in the order of their rank.
//!
//! Tasks of one run and one class share a *lane*, since any limit that holds one of them back
//! applies to all of them. A scheduling pass considers only the heads of open lanes, not every
//! task.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use kahn_model::{TaskIx, Timestamp};

use super::NamespaceIx;
use super::classes::ClassIx;
use super::gates::Gate;
use super::run::RunIx;
use super::slab::Slab;

/// Index of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneIx(pub u32);

/// The order of ready tasks: the smallest rank goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub run_priority: Reverse<i32>,
    pub task_priority: Reverse<i32>,
    pub b_level: Reverse<u64>,
    pub age: u32,
}

/// The ready tasks of one run and one class.
#[derive(Debug)]
pub(crate) struct Lane {
    pub run: RunIx,
    pub namespace: NamespaceIx,
    pub class: ClassIx,
    /// Its tasks, and since when each of them is ready.
    tasks: BTreeMap<(Rank, TaskIx), Timestamp>,
    parked_at: Option<Gate>,
}

impl Lane {
    pub(crate) fn head(&self) -> Option<(Rank, TaskIx)> {
        self.tasks.first_key_value().map(|(head, _)| *head)
    }

    /// Returns the number of tasks in the lane.
    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Returns whether the lane contains the task with this rank.
    pub(crate) fn has(&self, rank: Rank, task: TaskIx) -> bool {
        self.tasks.contains_key(&(rank, task))
    }

    /// Returns the gate at which the lane is parked, if any.
    pub(crate) fn parked_at(&self) -> Option<&Gate> {
        self.parked_at.as_ref()
    }

    pub(crate) fn tasks(&self) -> impl Iterator<Item = TaskIx> + '_ {
        self.tasks.keys().map(|(_, task)| *task)
    }
}

/// All ready tasks.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    lanes: Slab<Lane>,
    /// Heads of the lanes that are neither parked nor empty.
    open: BTreeMap<NamespaceIx, BTreeMap<ClassIx, BTreeSet<(Rank, LaneIx)>>>,
    n_tasks: usize,
    next_age: u32,
}

impl Ready {
    pub(crate) fn len(&self) -> usize {
        self.n_tasks
    }

    pub(crate) fn next_age(&mut self) -> u32 {
        self.next_age = self.next_age.wrapping_add(1);
        self.next_age
    }

    /// Ensures that later ages are greater than `age`.
    pub(crate) fn has_aged(&mut self, age: u32) {
        self.next_age = self.next_age.max(age);
    }

    pub(crate) fn add_lane(
        &mut self,
        run: RunIx,
        namespace: NamespaceIx,
        class: ClassIx,
    ) -> LaneIx {
        let lane = Lane { run, namespace, class, tasks: BTreeMap::new(), parked_at: None };
        LaneIx(self.lanes.insert(lane))
    }

    /// Removes a lane, and returns the gate at which it was parked.
    pub(crate) fn remove_lane(&mut self, lane: LaneIx) -> Option<Gate> {
        self.close_head(lane);
        let gone = self.lanes.remove(lane.0);
        self.n_tasks -= gone.tasks.len();
        gone.parked_at
    }

    pub(crate) fn lane(&self, lane: LaneIx) -> &Lane {
        &self.lanes[lane.0]
    }

    pub(crate) fn lanes(&self) -> impl Iterator<Item = (LaneIx, &Lane)> {
        self.lanes.iter().map(|(at, lane)| (LaneIx(at), lane))
    }

    pub(crate) fn insert(&mut self, lane: LaneIx, rank: Rank, task: TaskIx, since: Timestamp) {
        let head = self.lanes[lane.0].head();
        self.n_tasks += 1;
        if head.is_some_and(|(first, _)| first < rank) {
            self.lanes[lane.0].tasks.insert((rank, task), since);
            return;
        }
        self.close_head(lane);
        self.lanes[lane.0].tasks.insert((rank, task), since);
        self.open_head(lane);
    }

    /// Removes a task, and returns since when it was ready.
    pub(crate) fn remove(&mut self, lane: LaneIx, rank: Rank, task: TaskIx) -> Timestamp {
        self.close_head(lane);
        let since = self.lanes[lane.0].tasks.remove(&(rank, task));
        let since = since.expect("invariant: a ready task is in its lane under its rank");
        self.n_tasks -= 1;
        self.open_head(lane);
        since
    }

    pub(crate) fn park(&mut self, lane: LaneIx, gate: Gate) {
        self.close_head(lane);
        self.lanes[lane.0].parked_at = Some(gate);
    }

    pub(crate) fn unpark(&mut self, lane: LaneIx) {
        if self.lanes[lane.0].parked_at.take().is_some() {
            self.open_head(lane);
        }
    }

    /// Returns the namespaces with open lanes.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = NamespaceIx> + '_ {
        self.open.keys().copied()
    }

    /// Returns the best head of each class among the open lanes of `namespace`.
    pub(crate) fn heads(
        &self,
        namespace: NamespaceIx,
    ) -> impl Iterator<Item = (Rank, ClassIx, LaneIx)> + '_ {
        self.open
            .get(&namespace)
            .into_iter()
            .flatten()
            .filter_map(|(class, heads)| heads.first().map(|(rank, lane)| (*rank, *class, *lane)))
    }

    /// Returns whether a task of `class` is in an open lane.
    pub(crate) fn waits(&self, class: ClassIx) -> bool {
        self.open.values().any(|classes| classes.contains_key(&class))
    }

    fn close_head(&mut self, lane: LaneIx) {
        let entry = &self.lanes[lane.0];
        let (Some((rank, _)), None) = (entry.head(), &entry.parked_at) else { return };
        let (namespace, class) = (entry.namespace, entry.class);
        let Some(classes) = self.open.get_mut(&namespace) else { return };
        if let Some(heads) = classes.get_mut(&class) {
            heads.remove(&(rank, lane));
            if heads.is_empty() {
                classes.remove(&class);
            }
        }
        if classes.is_empty() {
            self.open.remove(&namespace);
        }
    }

    fn open_head(&mut self, lane: LaneIx) {
        let entry = &self.lanes[lane.0];
        let (Some((rank, _)), None) = (entry.head(), &entry.parked_at) else { return };
        let classes = self.open.entry(entry.namespace).or_default();
        classes.entry(entry.class).or_default().insert((rank, lane));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(b_level: u64, age: u32) -> Rank {
        Rank { run_priority: Reverse(0), task_priority: Reverse(0), b_level: Reverse(b_level), age }
    }

    #[test]
    fn the_longest_path_goes_first_and_then_the_oldest() {
        let mut ready = Ready::default();
        let lane = ready.add_lane(RunIx(0), NamespaceIx(0), ClassIx(0));
        ready.insert(lane, rank(5, 2), TaskIx(2), Timestamp::ZERO);
        ready.insert(lane, rank(9, 3), TaskIx(3), Timestamp::ZERO);
        ready.insert(lane, rank(5, 1), TaskIx(1), Timestamp::ZERO);
        let mut order = Vec::new();
        while let Some((rank, task)) = ready.lane(lane).head() {
            assert_eq!(ready.heads(NamespaceIx(0)).next(), Some((rank, ClassIx(0), lane)));
            ready.remove(lane, rank, task);
            order.push(task.0);
        }
        assert_eq!(order, [3, 1, 2]);
        assert_eq!(ready.heads(NamespaceIx(0)).next(), None);
    }

    #[test]
    fn a_parked_lane_is_not_looked_at_until_it_is_open_again() {
        let mut ready = Ready::default();
        let lane = ready.add_lane(RunIx(0), NamespaceIx(0), ClassIx(0));
        ready.insert(lane, rank(1, 1), TaskIx(1), Timestamp::ZERO);
        ready.park(lane, Gate::Run(RunIx(0)));
        ready.insert(lane, rank(2, 2), TaskIx(2), Timestamp::ZERO);
        assert_eq!(ready.namespaces().count(), 0);
        ready.unpark(lane);
        assert_eq!(ready.heads(NamespaceIx(0)).next(), Some((rank(2, 2), ClassIx(0), lane)));
        assert_eq!(ready.len(), 2);
    }
}
