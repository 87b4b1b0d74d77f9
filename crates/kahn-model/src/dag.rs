//! The immutable graph of tasks and dependencies.
//!
//! A DAG is built once and then only read. It is stored in flat arrays, so that a million tasks
//! need little memory and traversal follows no pointers. Equal profiles, works and long values of
//! environment variables are stored only once.

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

/// The event of a dependency that the dependent waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum When {
    /// It succeeded.
    #[default]
    Succeeded = 0,
    /// It ended, in any state.
    Completed = 1,
    /// It failed permanently.
    Failed = 2,
    /// Its first attempt started.
    Started = 3,
    /// It is a service and is ready.
    Ready = 4,
}

impl When {
    /// All variants, ordered by number.
    pub const ALL: [Self; 5] =
        [Self::Succeeded, Self::Completed, Self::Failed, Self::Started, Self::Ready];
}

/// How strongly a dependent needs a dependency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DependencyKind {
    /// The dependent cannot run without it.
    #[default]
    Required = 0,
    /// The dependent waits for it, but runs without it if it fails or takes too long.
    Optional = 1,
    /// Only the order matters: the dependent starts after it ended, in any state.
    Soft = 2,
}

impl DependencyKind {
    /// All variants, ordered by number.
    pub const ALL: [Self; 3] = [Self::Required, Self::Optional, Self::Soft];
}

/// When a task runs, depending on how its dependencies ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Trigger {
    /// All dependencies were satisfied.
    #[default]
    AllSucceeded = 0,
    /// All dependencies ended, in any state.
    AllDone = 1,
    /// One dependency was satisfied; the others are not waited for.
    AnySucceeded = 2,
    /// One dependency failed; the others are not waited for.
    AnyFailed = 3,
    /// All dependencies ended and none failed; skipped ones are allowed.
    NoneFailed = 4,
}

impl Trigger {
    /// All variants, ordered by number.
    pub const ALL: [Self; 5] =
        [Self::AllSucceeded, Self::AllDone, Self::AnySucceeded, Self::AnyFailed, Self::NoneFailed];
}

/// A CEL expression over params, outputs and statuses. The task runs if it is true.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condition(pub Box<str>);

/// A dependency, seen from either end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DependencyRef {
    /// The task at the other end.
    pub task: TaskIx,
    /// The event to wait for.
    pub when: When,
    /// How strongly it is needed.
    pub kind: DependencyKind,
    /// Whether the dependent waits only for a limited time.
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

/// The edges of all tasks in one array; those of task `i` are at `starts[i]..starts[i + 1]`.
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

/// The estimate of a task without an estimate.
const UNKNOWN_MICROS: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    estimate_micros: u64,
    profile: u32,
    work: u32,
    name_end: u32,
    trigger: Trigger,
}

/// An immutable graph of tasks. Two DAGs are equal if all their parts are equal.
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
    /// Returns the name of the DAG.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Returns the settings for runs of this DAG.
    #[must_use]
    pub fn policy(&self) -> &RunPolicy {
        &self.policy
    }

    /// Returns the number of tasks.
    #[must_use]
    pub fn n_tasks(&self) -> usize {
        self.rows.len()
    }

    /// Returns the number of dependencies.
    #[must_use]
    pub fn n_dependencies(&self) -> usize {
        self.dependencies.edges.len()
    }

    /// Iterates over all tasks in insertion order.
    pub fn tasks(&self) -> impl ExactSizeIterator<Item = TaskIx> + Clone + use<> {
        (0..TaskIx::from_index(self.rows.len()).0).map(TaskIx)
    }

    /// Returns whether `task` exists.
    #[must_use]
    pub fn contains(&self, task: TaskIx) -> bool {
        task.index() < self.rows.len()
    }

    /// Returns the name of `task`.
    #[must_use]
    pub fn task_name(&self, task: TaskIx) -> &str {
        let end = |row: &Row| usize::try_from(row.name_end).expect("invariant: usize holds u32");
        let start = task.index().checked_sub(1).map_or(0, |before| end(&self.rows[before]));
        &self.names[start..end(&self.rows[task.index()])]
    }

    /// Returns the task called `name`.
    #[must_use]
    pub fn task_by_name(&self, name: &str) -> Option<TaskIx> {
        let at = self.by_name.binary_search_by(|ix| self.task_name(TaskIx(*ix)).cmp(name)).ok()?;
        Some(TaskIx(self.by_name[at]))
    }

    /// Returns the profile of `task`.
    #[must_use]
    pub fn profile(&self, task: TaskIx) -> &Arc<Profile> {
        &self.profiles[self.profile_index(task)]
    }

    /// Returns the index of the profile of `task` in [`Dag::profiles`].
    #[must_use]
    pub fn profile_index(&self, task: TaskIx) -> usize {
        usize::try_from(self.rows[task.index()].profile).expect("invariant: usize holds u32")
    }

    /// Returns the distinct profiles.
    #[must_use]
    pub fn profiles(&self) -> &[Arc<Profile>] {
        &self.profiles
    }

    /// Returns the work of `task`.
    #[must_use]
    pub fn work(&self, task: TaskIx) -> &Arc<Work> {
        &self.works[self.work_index(task)]
    }

    /// Returns the index of the work of `task` in [`Dag::works`].
    #[must_use]
    pub fn work_index(&self, task: TaskIx) -> usize {
        usize::try_from(self.rows[task.index()].work).expect("invariant: usize holds u32")
    }

    /// Returns the distinct works.
    #[must_use]
    pub fn works(&self) -> &[Arc<Work>] {
        &self.works
    }

    /// Returns the trigger of `task`.
    #[must_use]
    pub fn trigger(&self, task: TaskIx) -> Trigger {
        self.rows[task.index()].trigger
    }

    /// Returns the condition of `task`, if there is one.
    #[must_use]
    pub fn condition(&self, task: TaskIx) -> Option<&Condition> {
        self.conditions.get(&task)
    }

    /// Returns the expected run time of `task`, if known. Zero is known, too.
    #[must_use]
    pub fn estimate(&self, task: TaskIx) -> Option<Duration> {
        let micros = self.rows[task.index()].estimate_micros;
        (micros != UNKNOWN_MICROS).then(|| Duration::from_micros(micros))
    }

    /// Iterates over the dependencies of `task`.
    pub fn dependencies(&self, task: TaskIx) -> impl ExactSizeIterator<Item = DependencyRef> + '_ {
        self.dependencies.of(task).iter().map(|edge| edge.seen())
    }

    /// Iterates over the dependents of `task`.
    pub fn dependents(&self, task: TaskIx) -> impl ExactSizeIterator<Item = DependencyRef> + '_ {
        self.dependents.of(task).iter().map(|edge| edge.seen())
    }

    /// Returns how long `dependent` waits for `dependency`, if limited.
    #[must_use]
    pub fn dependency_timeout(&self, dependent: TaskIx, dependency: TaskIx) -> Option<Duration> {
        self.timeouts.get(&(dependent, dependency)).copied()
    }

    /// Iterates over the dependencies that `task` waits for only for a limited time, with that
    /// time.
    pub fn timed_dependencies(
        &self,
        task: TaskIx,
    ) -> impl Iterator<Item = (TaskIx, Duration)> + '_ {
        let range = (task, TaskIx(0))..=(task, TaskIx(u32::MAX));
        self.timeouts.range(range).map(|((_, dependency), timeout)| (*dependency, *timeout))
    }

    /// Returns whether any dependency waits for this event.
    #[must_use]
    pub fn has_dependency_when(&self, when: When) -> bool {
        self.dependencies.edges.iter().any(|edge| edge.when == when)
    }

    /// Returns all tasks in topological order, computed with Kahn's algorithm (A. B. Kahn,
    /// "Topological sorting of large networks", CACM 1962).
    #[must_use]
    pub fn topological_order(&self) -> Vec<TaskIx> {
        order::kahn(&self.dependencies, &self.dependents)
    }

    /// Returns whether `task` handles failures: it runs also, or only, if one of its dependencies
    /// has failed.
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
