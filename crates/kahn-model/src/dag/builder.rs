//! Builds and validates a [`Dag`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{
    Adjacency, Condition, Dag, DependencyKind, Edge, Row, Trigger, UNKNOWN_MICROS, When, order,
};
use crate::action::{Action, Text, Work};
use crate::ids::TaskIx;
use crate::limits;
use crate::name::Name;
use crate::policy::RunPolicy;
use crate::profile::Profile;

/// A new task without its dependencies.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// The name, unique in the DAG.
    pub name: Name,
    /// The work.
    pub work: Work,
    /// How to run it.
    pub profile: Profile,
    /// When it runs, depending on how its dependencies ended.
    pub trigger: Trigger,
    /// The task runs only if this is true.
    pub condition: Option<Condition>,
    /// The expected run time. Not needed for a sleep.
    pub estimate: Option<Duration>,
}

impl NewTask {
    /// Creates a task with default settings.
    #[must_use]
    pub fn new(name: Name, work: Work) -> Self {
        Self {
            name,
            work,
            profile: Profile::default(),
            trigger: Trigger::default(),
            condition: None,
            estimate: None,
        }
    }
}

/// The error for tasks and dependencies that do not form a DAG.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DagError {
    /// There are no tasks.
    #[error("a DAG has at least one task")]
    Empty,
    /// More tasks than [`limits::TASKS_MAX`].
    #[error("at most {max} tasks are allowed", max = limits::TASKS_MAX)]
    TooManyTasks,
    /// More dependencies than [`limits::DEPENDENCIES_MAX`].
    #[error("at most {max} dependencies are allowed", max = limits::DEPENDENCIES_MAX)]
    TooManyDependencies,
    /// The distinct works have more bytes than [`limits::WORKS_BYTES_MAX`].
    #[error(
        "the actions and environments of all tasks have more than {max} bytes, the limit, at task \
         `{0}`", max = limits::WORKS_BYTES_MAX
    )]
    TooMuchWork(Name),
    /// Two tasks have the same name.
    #[error("two tasks are called `{0}`")]
    DuplicateName(Name),
    /// A task lists a dependency twice.
    #[error("task `{dependent}` names its dependency `{dependency}` twice")]
    DuplicateDependency {
        /// The task.
        dependent: Name,
        /// The dependency.
        dependency: Name,
    },
    /// A dependency on a task that was not added.
    #[error("dependency on task {0:?}, which does not exist")]
    UnknownTask(TaskIx),
    /// A dependency cycle: each task depends on the next, the last on the first.
    #[error("dependency cycle of {} tasks", .0.len())]
    Cycle(Vec<TaskIx>),
}

#[derive(Clone, Copy, Debug)]
struct Link {
    dependent: u32,
    edge: Edge,
}

/// Collects tasks and dependencies in any order and builds a [`Dag`].
#[derive(Debug)]
pub struct DagBuilder {
    name: Name,
    policy: RunPolicy,
    names: String,
    rows: Vec<Row>,
    profiles: Interner<Profile>,
    works: Interner<Work>,
    values: Values,
    n_bytes: usize,
    n_bytes_max: usize,
    conditions: BTreeMap<TaskIx, Condition>,
    timeouts: BTreeMap<(TaskIx, TaskIx), Duration>,
    links: Vec<Link>,
}

impl DagBuilder {
    /// Creates a builder for a DAG with this name.
    #[must_use]
    pub fn new(name: Name, policy: RunPolicy) -> Self {
        Self {
            name,
            policy,
            names: String::new(),
            rows: Vec::new(),
            profiles: Interner::default(),
            works: Interner::default(),
            values: Values::default(),
            n_bytes: 0,
            n_bytes_max: limits::WORKS_BYTES_MAX,
            conditions: BTreeMap::new(),
            timeouts: BTreeMap::new(),
            links: Vec::new(),
        }
    }

    /// Adds a task and returns its position.
    ///
    /// Duplicate names are detected later, by [`DagBuilder::build`].
    ///
    /// # Errors
    ///
    /// Returns [`DagError::TooManyTasks`] or [`DagError::TooMuchWork`] if the tasks exceed a limit.
    pub fn task(&mut self, task: NewTask) -> Result<TaskIx, DagError> {
        let ix = TaskIx::from_index(self.rows.len());
        if self.rows.len() >= limits::TASKS_MAX {
            return Err(DagError::TooManyTasks);
        }
        let estimate_micros = estimate_micros(task.estimate, &task.work.action);
        let work = self.work(task.work);
        if self.n_bytes > self.n_bytes_max {
            return Err(DagError::TooMuchWork(task.name));
        }
        self.names.push_str(task.name.as_str());
        if let Some(condition) = task.condition {
            self.conditions.insert(ix, condition);
        }
        self.rows.push(Row {
            estimate_micros,
            profile: self.profiles.intern(task.profile),
            work,
            name_end: u32::try_from(self.names.len()).expect("invariant: 10^6 names of 128 bytes"),
            trigger: task.trigger,
        });
        Ok(ix)
    }

    /// Stores the work and its values, and returns its position.
    fn work(&mut self, mut work: Work) -> u32 {
        let n_known = self.works.values.len();
        let mut n_bytes = work.n_bytes_without_values();
        for (_, value) in &mut work.env {
            n_bytes += self.values.share(value);
        }
        let position = self.works.intern(work);
        if self.works.values.len() > n_known {
            self.n_bytes = self.n_bytes.saturating_add(n_bytes);
        }
        position
    }

    /// Makes `dependent` depend on `dependency`. Both may be added later.
    pub fn depends(
        &mut self,
        dependent: TaskIx,
        dependency: TaskIx,
        when: When,
        kind: DependencyKind,
        timeout: Option<Duration>,
    ) {
        if let Some(timeout) = timeout {
            self.timeouts.insert((dependent, dependency), timeout);
        }
        let edge = Edge { task: dependency.0, when, kind, is_timed: timeout.is_some() };
        self.links.push(Link { dependent: dependent.0, edge });
    }

    /// Makes `dependent` run after `dependency` succeeded.
    pub fn after(&mut self, dependent: TaskIx, dependency: TaskIx) {
        self.depends(dependent, dependency, When::Succeeded, DependencyKind::Required, None);
    }

    /// Validates and builds the DAG.
    ///
    /// Takes linear time in tasks and dependencies, plus the time to sort the names. Does not use
    /// recursion, so long chains do not overflow the stack.
    ///
    /// # Errors
    ///
    /// Returns a [`DagError`] that names the tasks.
    pub fn build(self) -> Result<Dag, DagError> {
        if self.rows.is_empty() {
            return Err(DagError::Empty);
        }
        if self.links.len() > limits::DEPENDENCIES_MAX {
            return Err(DagError::TooManyDependencies);
        }
        let n = self.rows.len();
        self.check_links_exist(n)?;
        let dependencies = adjacency(n, &self.links, |link| (link.dependent, link.edge));
        let dependents = adjacency(n, &self.links, |link| {
            (link.edge.task, Edge { task: link.dependent, ..link.edge })
        });
        let dag = Dag {
            name: self.name,
            policy: self.policy,
            names: self.names,
            rows: self.rows,
            by_name: Vec::new(),
            profiles: self.profiles.values,
            works: self.works.values,
            conditions: self.conditions,
            timeouts: self.timeouts,
            dependencies,
            dependents,
        };
        let dag = index_names(dag)?;
        check_repeats(&dag)?;
        check_cycles(&dag)?;
        Ok(dag)
    }

    fn check_links_exist(&self, n: usize) -> Result<(), DagError> {
        let ends = self.links.iter().flat_map(|link| [link.dependent, link.edge.task]);
        match ends.map(TaskIx).find(|task| task.index() >= n) {
            Some(unknown) => Err(DagError::UnknownTask(unknown)),
            None => Ok(()),
        }
    }
}

fn estimate_micros(given: Option<Duration>, action: &Action) -> u64 {
    let known = match action {
        Action::Sleep { duration } => Some(*duration),
        Action::Noop => given,
        // Nothing else takes no time at all. The stored form of a DAG has zero for unknown.
        _ => given.map(|given| given.max(Duration::from_micros(1))),
    };
    let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    known.map_or(UNKNOWN_MICROS, |span| micros(span).min(UNKNOWN_MICROS - 1))
}

/// Sorts the edges by the task at one end (counting sort). The sort is stable.
fn adjacency(n: usize, links: &[Link], key: impl Fn(&Link) -> (u32, Edge)) -> Adjacency {
    let ix = |at: u32| usize::try_from(at).expect("invariant: usize holds u32");
    let mut starts = vec![0u32; n + 1];
    for link in links {
        starts[ix(key(link).0) + 1] += 1;
    }
    for at in 0..n {
        starts[at + 1] += starts[at];
    }
    let filler =
        Edge { task: 0, when: When::default(), kind: DependencyKind::default(), is_timed: false };
    let mut edges = vec![filler; links.len()];
    let mut next = starts.clone();
    for link in links {
        let (at, edge) = key(link);
        edges[ix(next[ix(at)])] = edge;
        next[ix(at)] += 1;
    }
    Adjacency { starts, edges }
}

fn index_names(mut dag: Dag) -> Result<Dag, DagError> {
    let mut by_name: Vec<u32> = dag.tasks().map(|task| task.0).collect();
    by_name.sort_unstable_by(|a, b| dag.task_name(TaskIx(*a)).cmp(dag.task_name(TaskIx(*b))));
    for pair in by_name.windows(2) {
        if dag.task_name(TaskIx(pair[0])) == dag.task_name(TaskIx(pair[1])) {
            return Err(DagError::DuplicateName(name_of(&dag, TaskIx(pair[0]))));
        }
    }
    dag.by_name = by_name;
    Ok(dag)
}

fn check_repeats(dag: &Dag) -> Result<(), DagError> {
    let mut last_dependent = vec![u32::MAX; dag.n_tasks()];
    for task in dag.tasks() {
        for dependency in dag.dependencies(task) {
            let seen = &mut last_dependent[dependency.task.index()];
            if *seen == task.0 {
                return Err(DagError::DuplicateDependency {
                    dependent: name_of(dag, task),
                    dependency: name_of(dag, dependency.task),
                });
            }
            *seen = task.0;
        }
    }
    Ok(())
}

fn check_cycles(dag: &Dag) -> Result<(), DagError> {
    let order = dag.topological_order();
    if order.len() == dag.n_tasks() {
        return Ok(());
    }
    Err(DagError::Cycle(order::find_cycle(&dag.dependencies, &order)))
}

fn name_of(dag: &Dag, task: TaskIx) -> Name {
    Name::new(dag.task_name(task)).expect("invariant: it was a name when it was added")
}

/// The long values of environment variables, each stored once. The works of a matrix differ by its
/// variables, so that each is stored, but most of their values are the same.
#[derive(Debug, Default)]
struct Values(BTreeSet<Text>);

impl Values {
    /// Shorter values are not worth a search.
    const BYTES_MIN: usize = 256;

    /// Replaces the value by an equal one that is stored already. Returns how many bytes it adds.
    fn share(&mut self, value: &mut Text) -> usize {
        let n_bytes = value.as_str().len();
        if n_bytes < Self::BYTES_MIN {
            return n_bytes;
        }
        if let Some(known) = self.0.get(value) {
            *value = known.clone();
            return 0;
        }
        self.0.insert(value.clone());
        n_bytes
    }
}

/// Stores equal values only once.
#[derive(Debug)]
struct Interner<T> {
    values: Vec<Arc<T>>,
    positions: BTreeMap<Arc<T>, u32>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { values: Vec::new(), positions: BTreeMap::new() }
    }
}

impl<T: Ord> Interner<T> {
    fn intern(&mut self, value: T) -> u32 {
        if let Some(position) = self.positions.get(&value) {
            return *position;
        }
        let position = u32::try_from(self.values.len()).expect("invariant: no more than tasks");
        let value = Arc::new(value);
        self.values.push(Arc::clone(&value));
        self.positions.insert(value, position);
        position
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::ActionKind;

    fn builder() -> DagBuilder {
        DagBuilder::new(Name::new("d").unwrap(), RunPolicy::default())
    }

    fn noop(name: &str) -> NewTask {
        NewTask::new(Name::new(name).unwrap(), Work::new(Action::Noop))
    }

    #[test]
    fn a_diamond_keeps_names_edges_and_shared_parts() {
        let mut b = builder();
        let [top, left, right, end] =
            ["top", "left", "right", "end"].map(|name| b.task(noop(name)).unwrap());
        for (dependent, dependency) in [(left, top), (right, top), (end, left), (end, right)] {
            b.after(dependent, dependency);
        }
        let dag = b.build().unwrap();
        assert_eq!(dag.task_by_name("right"), Some(right));
        assert_eq!(dag.task_by_name("middle"), None);
        assert_eq!(dag.task_name(end), "end");
        assert_eq!(dag.dependencies(end).map(|d| d.task).collect::<Vec<_>>(), [left, right]);
        assert_eq!(dag.dependents(top).map(|d| d.task).collect::<Vec<_>>(), [left, right]);
        assert_eq!(dag.topological_order(), [top, left, right, end]);
        assert_eq!((dag.works().len(), dag.profiles().len()), (1, 1));
        assert_eq!(dag.work(end).action.kind(), ActionKind::Builtin);
    }

    /// Work that differs from that of other instances, with a value that does not.
    fn instance(at: usize, value: &str) -> NewTask {
        let mut task = noop(&format!("t{at}"));
        let variable = |name: &str, value: &str| (name.into(), Text::new(value));
        task.work.env = vec![variable("PARAM_p", value), variable("MATRIX_v", &at.to_string())];
        task
    }

    #[test]
    fn works_that_differ_share_their_long_values() {
        let mut b = builder();
        let value = "x".repeat(1 << 20);
        for at in 0..1_000 {
            b.task(instance(at, &value)).unwrap();
        }
        assert!(b.n_bytes < 2 << 20, "{} bytes", b.n_bytes);
        let dag = b.build().unwrap();
        let values: Vec<&Text> = dag.works().iter().map(|work| &work.env[0].1).collect();
        assert_eq!(values.len(), 1_000);
        assert!(values.iter().all(|value| value.is_same(values[0])));
    }

    #[test]
    fn works_that_are_too_large_together_are_refused_with_the_limit() {
        let mut b = builder();
        b.n_bytes_max = 1 << 20;
        let add = |at: usize| b.task(instance(at, &at.to_string().repeat(100_000)));
        let error = (10..100).map(add).find_map(Result::err).unwrap();
        assert_eq!(error, DagError::TooMuchWork(Name::new("t15").unwrap()));
        let limit = limits::WORKS_BYTES_MAX.to_string();
        assert!(error.to_string().contains(&limit), "{error}");
    }

    #[test]
    fn what_is_not_a_dag_is_refused_by_name() {
        assert_eq!(builder().build().unwrap_err(), DagError::Empty);

        let mut twice = builder();
        twice.task(noop("a")).unwrap();
        twice.task(noop("a")).unwrap();
        assert_eq!(twice.build().unwrap_err(), DagError::DuplicateName(Name::new("a").unwrap()));

        let mut repeated = builder();
        let (a, b) = (repeated.task(noop("a")).unwrap(), repeated.task(noop("b")).unwrap());
        repeated.after(b, a);
        repeated.after(b, a);
        assert!(matches!(repeated.build(), Err(DagError::DuplicateDependency { .. })));

        let mut dangling = builder();
        let a = dangling.task(noop("a")).unwrap();
        dangling.after(a, TaskIx(9));
        assert_eq!(dangling.build().unwrap_err(), DagError::UnknownTask(TaskIx(9)));
    }

    #[test]
    fn a_cycle_is_reported_as_its_path() {
        let mut b = builder();
        let [x, y, z, free] = ["x", "y", "z", "free"].map(|name| b.task(noop(name)).unwrap());
        b.after(x, y);
        b.after(y, z);
        b.after(z, x);
        b.after(free, x);
        let DagError::Cycle(path) = b.build().unwrap_err() else { panic!("a cycle") };
        assert_eq!(path.len(), 3);
        assert!(!path.contains(&free));
    }

    #[test]
    fn a_chain_of_a_million_tasks_and_a_cycle_of_a_million_need_no_stack() {
        for is_closed in [false, true] {
            let mut b = builder();
            let tasks: Vec<TaskIx> =
                (0..limits::TASKS_MAX).map(|i| b.task(noop(&format!("t{i}"))).unwrap()).collect();
            for pair in tasks.windows(2) {
                b.after(pair[1], pair[0]);
            }
            if is_closed {
                b.after(tasks[0], tasks[limits::TASKS_MAX - 1]);
                let Err(DagError::Cycle(path)) = b.build() else { panic!("a cycle") };
                assert_eq!(path.len(), limits::TASKS_MAX);
            } else {
                assert_eq!(b.build().unwrap().topological_order().len(), limits::TASKS_MAX);
            }
        }
    }
}
