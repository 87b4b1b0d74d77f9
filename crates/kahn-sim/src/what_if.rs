//! What if this DAG ran on those workers? The two cores of production answer, in virtual time,
//! with a network and a store that cost nothing. Every attempt succeeds.
//!
//! [`gantt`] draws the answer; [`crate::best_of_references`] says what other schedulers would make
//! of the same question.

pub mod gantt;
mod play;

use std::sync::Arc;
use std::time::Duration;

use kahn_core::Spreading;
use kahn_model::{Dag, Labels, Resource, Resources, TaskIx, critical_path, levels};

/// One worker to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerShape {
    /// Its name, which must be a valid [`kahn_model::Name`]; others are replaced by `worker-N`.
    pub name: String,
    /// All it has.
    pub capacity: Resources,
    /// What it says of itself.
    pub labels: Labels,
}

impl WorkerShape {
    /// So many workers, all alike, called `worker-1` and so on.
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

/// The question.
#[derive(Clone, Debug)]
pub struct WhatIf {
    /// On which workers.
    pub workers: Vec<WorkerShape>,
    /// Which of several workers with room gets a task.
    pub policy: Spreading,
    /// How long a task takes of which nothing is known.
    pub default_duration: Duration,
    /// From the decision to lease an attempt until its worker has it.
    pub dispatch_latency: Duration,
    /// How long each task takes, by position; the estimates of the DAG where not given.
    pub durations: Option<Vec<Duration>>,
}

impl WhatIf {
    /// The question with nothing special about it.
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
    /// When all it depends on had ended.
    pub ready: Duration,
    /// When it started.
    pub start: Duration,
    /// When it ended.
    pub end: Duration,
}

impl Placement {
    /// For how long it was ready and did not run.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.start.saturating_sub(self.ready)
    }
}

/// How long tasks waited for room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// All waits together.
    pub total: Duration,
    /// The longest, with its task.
    pub longest: Option<(TaskIx, Duration)>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulation {
    /// From submission to the end of the last task.
    pub makespan: Duration,
    /// Of the resource that is used most: the share of all there is that was used, 0 to 1.
    pub utilisation: f64,
    /// Of each worker, by position: the share of its capacity that was used, 0 to 1.
    pub worker_utilisation: Vec<f64>,
    /// Every task that ran, in the order of starts.
    pub placements: Vec<Placement>,
    /// Tasks that never ran: no worker has what they ask for, or something before them failed.
    pub unplaced: Vec<TaskIx>,
    /// The heaviest chain of tasks.
    pub critical_path: Vec<TaskIx>,
    /// No schedule is shorter than the heaviest chain.
    pub critical_path_bound: Duration,
    /// No schedule is shorter than all the work divided by all the capacity.
    pub area_bound: Duration,
    /// How long tasks waited for room.
    pub waits: Waits,
}

impl Simulation {
    /// What no schedule can be shorter than.
    #[must_use]
    pub fn lower_bound(&self) -> Duration {
        self.critical_path_bound.max(self.area_bound)
    }
}

/// Answers the question for one run of `dag`.
#[must_use]
pub fn simulate(dag: &Arc<Dag>, question: &WhatIf) -> Simulation {
    let mut placements = play::play(dag, question);
    placements.sort_by_key(|placement| (placement.start, placement.task));
    let levels = levels(dag, |task| question.duration(dag, task));
    let makespan = placements.iter().map(|one| one.end).max().unwrap_or_default();
    let mut has_run = vec![false; dag.n_tasks()];
    placements.iter().for_each(|one| has_run[one.task.index()] = true);
    let (area_bound, utilisation) = area(dag, question, &placements, makespan);
    Simulation {
        makespan,
        utilisation,
        worker_utilisation: per_worker(dag, question, &placements, makespan),
        unplaced: dag.tasks().filter(|task| !has_run[task.index()]).collect(),
        critical_path: critical_path(dag, &levels),
        critical_path_bound: Duration::from_micros(levels.critical_path_micros()),
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

/// The work in one resource: amount times microseconds.
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

/// The bound by area, and the use of the scarcest resource.
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
