//! The immutable graph of tasks and dependencies.
//!
//! Built once, then only read. The arrays are flat, so that a DAG of a million tasks costs little
//! memory and walking it follows no pointers; names, profiles and works that repeat are kept once.

mod builder;
mod order;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use builder::{DagBuilder, DagError, NewTask};

use crate::action::Work;
use crate::ids::TaskIx;
use crate::name::Name;
use crate::policy::RunPolicy;
use crate::profile::Profile;

/// Which moment of a dependency lets the dependent go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum When {
    /// It succeeded.
    #[default]
    Succeeded = 0,
    /// It ended, however.
    Completed = 1,
    /// It failed for good.
    Failed = 2,
    /// Its first attempt started.
    Started = 3,
    /// It is a service and answers.
    Ready = 4,
}

impl When {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Succeeded, Self::Completed, Self::Failed, Self::Started, Self::Ready];
}

/// How much a dependent depends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DependencyKind {
    /// The dependent cannot do without it.
    #[default]
    Required = 0,
    /// The dependent waits for it, and goes on without it when it fails or takes too long.
    Optional = 1,
    /// Order only: the dependent does not start before it ended, however it ended.
    Soft = 2,
}

impl DependencyKind {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 3] = [Self::Required, Self::Optional, Self::Soft];
}

/// When a task runs, given how its dependencies ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Trigger {
    /// All dependencies were met.
    #[default]
    AllSucceeded = 0,
    /// All dependencies ended, however.
    AllDone = 1,
    /// One dependency was met; the others are not waited for.
    AnySucceeded = 2,
    /// One dependency failed; the others are not waited for.
    AnyFailed = 3,
    /// All dependencies ended and none failed; skipped ones do not matter.
    NoneFailed = 4,
}

impl Trigger {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::AllSucceeded, Self::AllDone, Self::AnySucceeded, Self::AnyFailed, Self::NoneFailed];
}

/// A CEL expression over params, outputs and statuses; the task runs when it is true.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condition(pub Box<str>);

/// One dependency, seen from either end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DependencyRef {
    /// The task at the other end.
    pub task: TaskIx,
    /// Which moment of it counts.
    pub when: When,
    /// How much it matters.
    pub kind: DependencyKind,
    /// Whether it may hold the dependent back for a limited time only.
    pub is_timed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edge {
    task: u32,
    when: When,
    kind: DependencyKind,
    is_timed: bool,
}

impl Edge {
    fn seen(self) -> DependencyRef {
        let Self { task, when, kind, is_timed } = self;
        DependencyRef { task: TaskIx(task), when, kind, is_timed }
    }
}

/// Edges of all tasks in one array, those of task `i` at `starts[i]..starts[i + 1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Adjacency {
    starts: Vec<u32>,
    edges: Vec<Edge>,
}

impl Adjacency {
    fn of(&self, task: TaskIx) -> &[Edge] {
        let at = |i: usize| usize::try_from(self.starts[i]).expect("invariant: usize holds u32");
        &self.edges[at(task.index())..at(task.index() + 1)]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    estimate_micros: u64,
    profile: u32,
    work: u32,
    name_end: u32,
    trigger: Trigger,
}

/// An immutable graph of tasks. Two DAGs are equal when all their parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dag {
    name: Name,
    policy: RunPolicy,
    names: String,
    rows: Vec<Row>,
    by_name: Vec<u32>,
    profiles: Vec<Arc<Profile>>,
    works: Vec<Arc<Work>>,
    conditions: BTreeMap<TaskIx, Condition>,
    timeouts: BTreeMap<(TaskIx, TaskIx), Duration>,
    dependencies: Adjacency,
    dependents: Adjacency,
}

impl Dag {
    /// What the author called it.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The rules for a run of it.
    #[must_use]
    pub fn policy(&self) -> &RunPolicy {
        &self.policy
    }

    /// How many tasks it has.
    #[must_use]
    pub fn n_tasks(&self) -> usize {
        self.rows.len()
    }

    /// How many dependencies it has.
    #[must_use]
    pub fn n_dependencies(&self) -> usize {
        self.dependencies.edges.len()
    }

    /// All tasks, in the order in which they were added.
    pub fn tasks(&self) -> impl ExactSizeIterator<Item = TaskIx> + Clone + use<> {
        (0..TaskIx::from_index(self.rows.len()).0).map(TaskIx)
    }

    /// Whether `task` is one of its tasks.
    #[must_use]
    pub fn contains(&self, task: TaskIx) -> bool {
        task.index() < self.rows.len()
    }

    /// The name of `task`.
    #[must_use]
    pub fn task_name(&self, task: TaskIx) -> &str {
        let end = |row: &Row| usize::try_from(row.name_end).expect("invariant: usize holds u32");
        let start = task.index().checked_sub(1).map_or(0, |before| end(&self.rows[before]));
        &self.names[start..end(&self.rows[task.index()])]
    }

    /// The task called `name`.
    #[must_use]
    pub fn task_by_name(&self, name: &str) -> Option<TaskIx> {
        let at = self.by_name.binary_search_by(|ix| self.task_name(TaskIx(*ix)).cmp(name)).ok()?;
        Some(TaskIx(self.by_name[at]))
    }

    /// How `task` is to be run.
    #[must_use]
    pub fn profile(&self, task: TaskIx) -> &Arc<Profile> {
        &self.profiles[self.profile_index(task)]
    }

    /// Which of [`Dag::profiles`] `task` has.
    #[must_use]
    pub fn profile_index(&self, task: TaskIx) -> usize {
        usize::try_from(self.rows[task.index()].profile).expect("invariant: usize holds u32")
    }

    /// The different profiles of its tasks.
    #[must_use]
    pub fn profiles(&self) -> &[Arc<Profile>] {
        &self.profiles
    }

    /// What `task` does.
    #[must_use]
    pub fn work(&self, task: TaskIx) -> &Arc<Work> {
        &self.works[self.work_index(task)]
    }

    /// Which of [`Dag::works`] `task` has.
    #[must_use]
    pub fn work_index(&self, task: TaskIx) -> usize {
        usize::try_from(self.rows[task.index()].work).expect("invariant: usize holds u32")
    }

    /// The different works of its tasks.
    #[must_use]
    pub fn works(&self) -> &[Arc<Work>] {
        &self.works
    }

    /// When `task` runs, given how its dependencies ended.
    #[must_use]
    pub fn trigger(&self, task: TaskIx) -> Trigger {
        self.rows[task.index()].trigger
    }

    /// The condition of `task`, if it has one.
    #[must_use]
    pub fn condition(&self, task: TaskIx) -> Option<&Condition> {
        self.conditions.get(&task)
    }

    /// How long the author expects `task` to take, if that is known.
    #[must_use]
    pub fn estimate(&self, task: TaskIx) -> Option<Duration> {
        let micros = self.rows[task.index()].estimate_micros;
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// What `task` depends on.
    pub fn dependencies(&self, task: TaskIx) -> impl ExactSizeIterator<Item = DependencyRef> + '_ {
        self.dependencies.of(task).iter().map(|edge| edge.seen())
    }

    /// What depends on `task`.
    pub fn dependents(&self, task: TaskIx) -> impl ExactSizeIterator<Item = DependencyRef> + '_ {
        self.dependents.of(task).iter().map(|edge| edge.seen())
    }

    /// For how long `dependency` alone may hold `dependent` back.
    #[must_use]
    pub fn dependency_timeout(&self, dependent: TaskIx, dependency: TaskIx) -> Option<Duration> {
        self.timeouts.get(&(dependent, dependency)).copied()
    }

    /// The dependencies that may hold `task` back for a limited time only, with that time.
    pub fn timed_dependencies(
        &self,
        task: TaskIx,
    ) -> impl Iterator<Item = (TaskIx, Duration)> + '_ {
        let range = (task, TaskIx(0))..=(task, TaskIx(u32::MAX));
        self.timeouts.range(range).map(|((_, dependency), timeout)| (*dependency, *timeout))
    }

    /// Whether any dependency counts from this moment.
    #[must_use]
    pub fn has_dependency_when(&self, when: When) -> bool {
        self.dependencies.edges.iter().any(|edge| edge.when == when)
    }

    /// All tasks, each after everything it depends on: Kahn's order (A. B. Kahn, "Topological
    /// sorting of large networks", CACM 1962).
    #[must_use]
    pub fn topological_order(&self) -> Vec<TaskIx> {
        order::kahn(&self.dependencies, &self.dependents)
    }

    /// Whether `task` is there to deal with failure: it runs also, or only, when something it
    /// depends on has failed.
    #[must_use]
    pub fn is_handler(&self, task: TaskIx) -> bool {
        let by_trigger = matches!(self.trigger(task), Trigger::AllDone | Trigger::AnyFailed);
        let by_edge = |edge: &Edge| {
            matches!(edge.when, When::Completed | When::Failed) && edge.kind != DependencyKind::Soft
        };
        let edges = self.dependencies.of(task);
        !edges.is_empty() && (by_trigger || edges.iter().any(by_edge))
    }
}
