//! A cluster that need not exist, and how a DAG would go on it. The deciding is that of the
//! coordinator's own state machine.

mod course;

use std::time::Duration;

use clap::{Args, ValueEnum};
use kahn_model::{Action, Dag, Resource, Resources, TaskIx};

use crate::exit::Failure;
use course::Simulation;

/// The cluster to imagine.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    /// How many workers, all alike
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub workers: u32,
    /// Processors of each worker [default: those of this machine]
    #[arg(long, value_name = "C")]
    pub cpu: Option<String>,
    /// All that each worker has, such as cpu=2,memory=4Gi; what is not named is never short
    /// [default: cpu and memory of this machine]
    #[arg(long, value_name = "AMOUNTS", conflicts_with = "cpu")]
    pub capacity: Option<String>,
    /// Which of several workers with room gets a task
    #[arg(long, value_enum, default_value_t)]
    pub policy: Policy,
}

/// Which of several workers with room gets a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// The emptiest
    #[default]
    Spread,
    /// The fullest that still has room
    Pack,
}

/// The cluster to imagine, ready for use.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// How many workers.
    pub workers: u32,
    /// What each was said to have.
    pub named: Resources,
    /// What each has: as named, and plenty of all else.
    pub capacity: Resources,
    /// Which of them gets a task.
    pub policy: Policy,
}

/// A task in the expected course of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Placed {
    /// From the beginning of the run.
    pub start: Duration,
    /// The task.
    pub task: TaskIx,
    /// The worker, from 0.
    pub worker: u32,
    /// From the beginning of the run.
    pub finish: Duration,
}

/// The expected course of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Course {
    /// How long it takes.
    pub makespan: Duration,
    /// Its tasks, by start.
    pub placed: Vec<Placed>,
}

impl ClusterArgs {
    /// The cluster, for this DAG.
    pub(crate) fn cluster(&self, dag: &Dag) -> Result<Cluster, Failure> {
        let config = kahn_worker::Config {
            capacity: self.capacity.clone(),
            ..kahn_worker::Config::default()
        };
        let refuse = |error: String| Failure::bad_input(error);
        let named = match (&self.cpu, &self.capacity) {
            (Some(cpu), _) => parse(&format!("cpu={cpu}"))?,
            (None, Some(capacity)) => parse(capacity)?,
            (None, None) => config.resources().map_err(|error| refuse(error.to_string()))?,
        };
        if named.get(&Resource::Cpu) == 0 {
            return Err(refuse("a worker needs some cpu".to_owned()).advise("give --cpu 2"));
        }
        let capacity = with_plenty(dag, &named);
        Ok(Cluster { workers: self.workers, named, capacity, policy: self.policy })
    }
}

fn parse(text: &str) -> Result<Resources, Failure> {
    text.parse()
        .map_err(|error: kahn_model::InvalidResources| Failure::bad_input(error.to_string()))
}

/// Of whatever was not named, as much as all tasks together ask for.
fn with_plenty(dag: &Dag, named: &Resources) -> Resources {
    let mut sum = Resources::none();
    for task in dag.tasks() {
        sum.add(&dag.profile(task).resources);
    }
    let mut capacity = named.clone();
    for (resource, amount) in sum.iter() {
        if named.get(&resource) == 0 {
            capacity.set(&resource, amount);
        }
    }
    capacity
}

impl Cluster {
    /// What all workers together were said to have.
    pub(crate) fn whole(&self) -> Resources {
        let mut whole = Resources::none();
        for (resource, amount) in self.named.iter() {
            whole.set(&resource, amount.saturating_mul(u64::from(self.workers)));
        }
        whole
    }
}

/// How long each task is expected to take: no time at all for what does nothing, and for those of
/// unknown length the mean of the others, as the coordinator takes them.
pub(crate) fn expected(dag: &Dag) -> Vec<Duration> {
    let known: Vec<Duration> = dag.tasks().filter_map(|task| dag.estimate(task)).collect();
    let total: Duration = known.iter().sum();
    let usual = match u32::try_from(known.len()) {
        Ok(n) if n > 0 => total / n,
        _ => Duration::from_secs(1),
    };
    let length = |task| match dag.work(task).action {
        Action::Noop => dag.estimate(task).unwrap_or_default(),
        _ => dag.estimate(task).unwrap_or(usual),
    };
    dag.tasks().map(length).collect()
}

/// How a run of `dag` would go on `cluster` if each task took as long as expected and succeeded.
pub(crate) fn simulate(dag: &Dag, cluster: &Cluster) -> Result<Course, Failure> {
    let labels = course::labels(dag);
    if let Some((task, why)) = course::infeasible(dag, cluster, &labels) {
        let message = format!("task `{}` {why}", dag.task_name(task));
        return Err(Failure::bad_input(message).advise("imagine larger workers with --capacity"));
    }
    let begun = Simulation::new(dag, cluster, expected(dag), &labels);
    begun.and_then(Simulation::finish).map_err(|refusal| Failure::refused(refusal.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::gantt::tests::{course, fork};

    fn on(workers: u32, capacity: &str) -> Result<Course, Failure> {
        let named: Resources = capacity.parse().unwrap();
        let dag = fork();
        let cluster =
            Cluster { workers, capacity: with_plenty(&dag, &named), named, policy: Policy::Spread };
        simulate(&dag, &cluster)
    }

    #[test]
    fn two_processors_run_two_tasks_at_one_time() {
        assert_eq!(on(1, "cpu=2").unwrap(), course());
    }

    #[test]
    fn one_processor_runs_the_longest_way_first() {
        let course = on(1, "cpu=1").unwrap();
        assert_eq!(course.makespan, Duration::from_secs(6));
        let order: Vec<u32> = course.placed.iter().map(|placed| placed.task.0).collect();
        assert_eq!(order, [0, 2, 1]);
    }

    #[test]
    fn two_workers_share_the_tasks() {
        let course = on(2, "cpu=1").unwrap();
        assert_eq!(course.makespan, Duration::from_secs(4));
        assert_ne!(course.placed[1].worker, course.placed[2].worker);
    }

    #[test]
    fn a_task_that_fits_no_worker_is_named_with_what_is_short() {
        let Err(Failure::Said { message, .. }) = on(3, "cpu=0.5") else { panic!("it fits") };
        assert_eq!(message, "task `a` asks for cpu=1, and a worker has cpu=0.5: too little cpu");
    }
}
