//! Simulates how a DAG would run on given workers. It uses the two production cores in virtual
//! time, with a network and a store that take no time. Every attempt succeeds.
//!
//! [`gantt`] draws the result; [`crate::best_of_references`] returns the makespan of other
//! schedulers for the same question.

pub mod gantt;
mod play;

use std::sync::Arc;
use std::time::Duration;

use kahn_core::Spreading;
use kahn_model::{Dag, Labels, Resource, Resources, TaskIx, critical_path, duration, levels};

/// A worker in the simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerShape {
    /// The name, which should be a valid [`kahn_model::Name`]; invalid ones are replaced by
    /// `worker-N`.
    pub name: String,
    /// The total capacity.
    pub capacity: Resources,
    /// The labels.
    pub labels: Labels,
}

impl WorkerShape {
    /// Returns `n` identical workers, called `worker-1` and so on.
    #[must_use]
    pub fn alike(n: usize, capacity: &Resources) -> Vec<Self> {
        let shape = |at: usize| Self {
            name: format!("worker-{}", at + 1),
            capacity: capacity.clone(),
            labels: Labels::new(),
        };
        (0..n).map(shape).collect()
    }
}

/// The input of a simulation.
#[derive(Clone, Debug)]
pub struct WhatIf {
    /// The workers.
    pub workers: Vec<WorkerShape>,
    /// Selects one of several workers that a task fits on.
    pub policy: Spreading,
    /// The duration of a task without an estimate.
    pub default_duration: Duration,
    /// The time from the decision to lease an attempt until its worker receives it.
    pub dispatch_latency: Duration,
    /// The duration of each task, by position. `None` uses the estimates of the DAG.
    pub durations: Option<Vec<Duration>>,
}

impl WhatIf {
    /// Creates a question with default settings.
    #[must_use]
    pub fn on(workers: Vec<WorkerShape>) -> Self {
        Self {
            workers,
            policy: Spreading::default(),
            default_duration: Duration::from_secs(1),
            dispatch_latency: Duration::ZERO,
            durations: None,
        }
    }

    fn duration(&self, dag: &Dag, task: TaskIx) -> Duration {
        let given = self.durations.as_ref().and_then(|all| all.get(task.index()).copied());
        given.or_else(|| dag.estimate(task)).unwrap_or(self.default_duration)
    }
}

/// Where and when a task ran. Times count from the submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The task.
    pub task: TaskIx,
    /// Position of its worker in [`WhatIf::workers`].
    pub worker: usize,
    /// When all its dependencies had ended.
    pub ready: Duration,
    /// When it started.
    pub start: Duration,
    /// When it ended.
    pub end: Duration,
}

impl Placement {
    /// Returns how long the task was ready but not running.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.start.saturating_sub(self.ready)
    }
}

/// Waiting times of ready tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// The sum of all waits.
    pub total: Duration,
    /// The longest wait and its task.
    pub longest: Option<(TaskIx, Duration)>,
}

/// The result of a simulation.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulation {
    /// The time from submission to the end of the last task.
    pub makespan: Duration,
    /// The used share of the most used resource, from 0 to 1.
    pub utilisation: f64,
    /// The used share of each worker's capacity, by position, from 0 to 1.
    pub worker_utilisation: Vec<f64>,
    /// All tasks that ran, ordered by start.
    pub placements: Vec<Placement>,
    /// Tasks that never ran, because no worker satisfies their requirements or a dependency failed.
    pub unplaced: Vec<TaskIx>,
    /// The heaviest chain of tasks.
    pub critical_path: Vec<TaskIx>,
    /// A lower bound on any schedule: the duration of the longest chain of the tasks that ran, in
    /// which each waited for the end of the one before.
    pub critical_path_bound: Duration,
    /// A lower bound on any schedule: all work of the tasks that ran, divided by all capacity.
    pub area_bound: Duration,
    /// Waiting times of ready tasks.
    pub waits: Waits,
}

impl Simulation {
    /// Returns the larger of the two lower bounds.
    #[must_use]
    pub fn lower_bound(&self) -> Duration {
        self.critical_path_bound.max(self.area_bound)
    }
}

/// Simulates one run of `dag`.
#[must_use]
pub fn simulate(dag: &Arc<Dag>, question: &WhatIf) -> Simulation {
    let mut placements = play::play(dag, question);
    placements.sort_by_key(|placement| (placement.start, placement.task));
    let levels = levels(dag, |task| question.duration(dag, task));
    let makespan = placements.iter().map(|one| one.end).max().unwrap_or_default();
    let mut has_run = vec![false; dag.n_tasks()];
    placements.iter().for_each(|one| has_run[one.task.index()] = true);
    let took = |task: TaskIx| has_run[task.index()].then(|| question.duration(dag, task));
    let (area_bound, utilisation) = area(dag, question, &placements, makespan);
    Simulation {
        makespan,
        utilisation,
        worker_utilisation: per_worker(dag, question, &placements, makespan),
        unplaced: dag.tasks().filter(|task| !has_run[task.index()]).collect(),
        critical_path: critical_path(dag, &levels),
        critical_path_bound: duration::longest_chain(dag, took),
        area_bound,
        waits: waits(&placements),
        placements,
    }
}

fn waits(placements: &[Placement]) -> Waits {
    let longest = placements.iter().max_by_key(|one| (one.wait(), std::cmp::Reverse(one.task)));
    Waits {
        total: placements.iter().map(Placement::wait).sum(),
        longest: longest.map(|one| (one.task, one.wait())),
    }
}

/// Returns the work in one resource: amount times microseconds.
fn work(dag: &Dag, placements: &[Placement], resource: &Resource) -> u128 {
    let of = |one: &Placement| {
        let amount = dag.profile(one.task).resources.get(resource);
        u128::from(amount) * (one.end - one.start).as_micros()
    };
    placements.iter().map(of).sum()
}

fn total_capacity(question: &WhatIf) -> Resources {
    let mut total = Resources::none();
    question.workers.iter().for_each(|worker| total.add(&worker.capacity));
    total
}

/// Returns the area bound and the use of the scarcest resource.
fn area(
    dag: &Dag,
    question: &WhatIf,
    placements: &[Placement],
    makespan: Duration,
) -> (Duration, f64) {
    let micros = total_capacity(question)
        .iter()
        .filter(|(_, capacity)| *capacity > 0)
        .map(|(resource, capacity)| work(dag, placements, &resource).div_ceil(u128::from(capacity)))
        .max()
        .unwrap_or(0);
    let bound = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
    (bound, share(bound, makespan))
}

fn per_worker(
    dag: &Dag,
    question: &WhatIf,
    placements: &[Placement],
    makespan: Duration,
) -> Vec<f64> {
    let mut by_worker: Vec<Vec<Placement>> = vec![Vec::new(); question.workers.len()];
    placements.iter().for_each(|one| by_worker[one.worker].push(*one));
    let of = |(worker, mine): (&WorkerShape, &Vec<Placement>)| {
        let alone = WhatIf { workers: vec![worker.clone()], ..question.clone() };
        area(dag, &alone, mine, makespan).1
    };
    question.workers.iter().zip(&by_worker).map(of).collect()
}

fn share(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
}
