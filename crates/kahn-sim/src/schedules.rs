//! Reference schedulers for comparing makespans. Each is a list scheduler: of the tasks that are
//! ready and fit, the first in the list starts first. They know every duration and decide without
//! delay.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use fastrand::Rng;
use kahn_model::{Dag, Resources, Selector, TaskIx, levels};

use crate::what_if::WorkerShape;

/// The number of random lists among the references.
const RANDOM_LISTS: usize = 200;

/// The makespan of one reference scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `b-level` (the order of HEFT), `fifo`, `longest-first` or `random-N`.
    pub name: String,
    /// The time from submission to the end of the last task.
    pub makespan: Duration,
}

/// Returns the shortest makespan of all references. Durations are the estimates of the DAG, or one
/// second for tasks without an estimate.
#[must_use]
pub fn best_of_references(dag: &Dag, workers: &[WorkerShape]) -> Duration {
    let usual = Duration::from_secs(1);
    let all = references(dag, workers, |task| dag.estimate(task).unwrap_or(usual));
    all.into_iter().map(|one| one.makespan).min().unwrap_or_default()
}

/// Returns the makespan of every reference with the given task durations. Tasks that fit on no
/// worker are omitted, together with all that depend on them.
#[must_use]
pub fn references(
    dag: &Dag,
    workers: &[WorkerShape],
    duration: impl Fn(TaskIx) -> Duration,
) -> Vec<Reference> {
    let durations: Vec<u64> =
        dag.tasks().map(|t| u64::try_from(duration(t).as_micros()).unwrap_or(u64::MAX)).collect();
    let position = |at: usize| u64::try_from(at).expect("invariant: u64 holds usize");
    let by_level: Vec<u64> =
        levels(dag, &duration).b_level.into_iter().map(|level| u64::MAX - level).collect();
    let by_length: Vec<u64> = durations.iter().map(|long| u64::MAX - long).collect();
    let in_order: Vec<u64> = (0..dag.n_tasks()).map(position).collect();
    let mut lists = vec![
        ("b-level".to_owned(), by_level),
        ("fifo".to_owned(), in_order),
        ("longest-first".to_owned(), by_length),
    ];
    let mut rng = Rng::with_seed(1);
    lists.extend((0..RANDOM_LISTS).map(|at| {
        let keys = (0..dag.n_tasks()).map(|_| rng.u64(..)).collect();
        (format!("random-{at}"), keys)
    }));
    let schedule = |(name, keys): (String, Vec<u64>)| Reference {
        name,
        makespan: Duration::from_micros(List::new(dag, workers, &durations, &keys).makespan()),
    };
    lists.into_iter().map(schedule).collect()
}

/// The requirements of a task. Tasks with the same requirements share a queue.
type Class<'a> = (&'a Resources, &'a Selector);

/// A list schedule in progress.
struct List<'a> {
    dag: &'a Dag,
    workers: &'a [WorkerShape],
    durations: &'a [u64],
    keys: &'a [u64],
    room: Vec<Resources>,
    open: Vec<usize>,
    ready: BTreeMap<Class<'a>, BTreeSet<(u64, TaskIx)>>,
    running: BinaryHeap<Reverse<(u64, TaskIx, usize)>>,
}

impl<'a> List<'a> {
    fn new(
        dag: &'a Dag,
        workers: &'a [WorkerShape],
        durations: &'a [u64],
        keys: &'a [u64],
    ) -> Self {
        let mut list = Self {
            dag,
            workers,
            durations,
            keys,
            room: workers.iter().map(|worker| worker.capacity.clone()).collect(),
            open: dag.tasks().map(|task| dag.dependencies(task).len()).collect(),
            ready: BTreeMap::new(),
            running: BinaryHeap::new(),
        };
        for task in dag.tasks().filter(|task| dag.dependencies(*task).len() == 0) {
            list.enter(task);
        }
        list
    }

    fn makespan(mut self) -> u64 {
        let mut now = 0;
        loop {
            self.fill(now);
            let Some(Reverse((end, task, worker))) = self.running.pop() else { return now };
            now = end;
            self.finish(task, worker);
            while let Some(Reverse((end, task, worker))) = self.running.peek().copied() {
                if end > now {
                    break;
                }
                self.running.pop();
                self.finish(task, worker);
            }
        }
    }

    fn enter(&mut self, task: TaskIx) {
        let profile = self.dag.profile(task);
        let class = (&profile.resources, &profile.selector);
        self.ready.entry(class).or_default().insert((self.keys[task.index()], task));
    }

    fn finish(&mut self, task: TaskIx, worker: usize) {
        self.room[worker].add(&self.dag.profile(task).resources);
        for dependent in self.dag.dependents(task) {
            let at = dependent.task.index();
            self.open[at] -= 1;
            if self.open[at] == 0 {
                self.enter(dependent.task);
            }
        }
    }

    /// Starts all tasks that fit, in list order.
    fn fill(&mut self, now: u64) {
        let mut full: BTreeSet<Class<'a>> = BTreeSet::new();
        loop {
            let next = self
                .ready
                .iter()
                .filter(|(class, tasks)| !full.contains(*class) && !tasks.is_empty())
                .filter_map(|(class, tasks)| tasks.first().map(|first| (*first, *class)))
                .min();
            let Some(((key, task), class)) = next else { return };
            let Some(worker) = self.worker_for(class) else {
                full.insert(class);
                continue;
            };
            self.room[worker].subtract(class.0);
            if let Some(tasks) = self.ready.get_mut(&class) {
                tasks.remove(&(key, task));
            }
            let end = now.saturating_add(self.durations[task.index()]);
            self.running.push(Reverse((end, task, worker)));
        }
    }

    fn worker_for(&self, (resources, selector): Class<'_>) -> Option<usize> {
        let suits = |at: &usize| {
            resources.fits(&self.room[*at]) && selector.allows(&self.workers[*at].labels)
        };
        (0..self.workers.len()).find(suits)
    }
}
