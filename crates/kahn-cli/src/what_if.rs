//! A cluster that need not exist, and how a DAG would go on it; the simulator answers.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use kahn_core::Spreading;
use kahn_model::{Action, Dag, LabelRule, Labels, Resource, Resources, TaskIx};
use kahn_sim::{Simulation, WhatIf, WorkerShape};

use crate::exit::Failure;

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

/// The expected course of a run, with the question that it answers.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    /// What was asked.
    pub question: WhatIf,
    /// What came of it.
    pub answer: Simulation,
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
    let labels = labels(dag);
    if let Some((task, why)) = infeasible(dag, cluster, &labels) {
        let message = format!("task `{}` {why}", dag.task_name(task));
        return Err(Failure::bad_input(message).advise("imagine larger workers with --capacity"));
    }
    let n_workers = usize::try_from(cluster.workers).unwrap_or(usize::MAX);
    let mut workers = WorkerShape::alike(n_workers, &cluster.capacity);
    workers.iter_mut().for_each(|worker| worker.labels.clone_from(&labels));
    let policy = match cluster.policy {
        Policy::Spread => Spreading::Spread,
        Policy::Pack => Spreading::Pack,
    };
    let durations = Some(expected(dag));
    let question = WhatIf { policy, durations, ..WhatIf::on(workers) };
    let answer = kahn_sim::simulate(&Arc::new(dag.clone()), &question);
    Ok(Course { question, answer })
}

/// Labels by which a worker satisfies what tasks ask for, as far as that goes.
fn labels(dag: &Dag) -> Labels {
    let mut labels = Labels::new();
    for rule in dag.profiles().iter().flat_map(|profile| &profile.selector.required) {
        let (key, value) = match rule {
            LabelRule::In { key, values } => (key, values.first().cloned()),
            LabelRule::Exists { key } => (key, Some(String::new())),
            LabelRule::NotIn { .. } | LabelRule::Absent { .. } => continue,
        };
        labels.entry(key.clone()).or_insert(value.unwrap_or_default());
    }
    labels
}

/// The first task that no imagined worker can take, and why.
fn infeasible(dag: &Dag, cluster: &Cluster, labels: &Labels) -> Option<(TaskIx, String)> {
    dag.tasks().find_map(|task| {
        let profile = dag.profile(task);
        if let Some((resource, _, _)) = profile.resources.shortage(&cluster.capacity) {
            let (wanted, found) = (profile.resources.rounded(), cluster.named.rounded());
            let why = format!("asks for {wanted}, and a worker has {found}: too little {resource}");
            return Some((task, why));
        }
        let rules = &profile.selector.required;
        let broken = rules.iter().find(|rule| !rule.matches(labels))?;
        Some((task, format!("asks for a worker where {broken}, unlike other tasks")))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use kahn_model::{DagBuilder, Name, NewTask, RunPolicy, Work};

    use super::*;

    /// `a` for 1 s, then `b` and `c` for 2 s and 3 s.
    pub(crate) fn fork() -> Dag {
        let mut builder = DagBuilder::new(Name::new("fork").unwrap(), RunPolicy::default());
        let mut add = |name: &str, seconds| {
            let action = Action::Sleep { duration: Duration::from_secs(seconds) };
            let mut new = NewTask::new(Name::new(name).unwrap(), Work::new(action));
            new.profile.resources = "cpu=1".parse().unwrap();
            builder.task(new).unwrap()
        };
        let (a, b, c) = (add("a", 1), add("b", 2), add("c", 3));
        builder.after(b, a);
        builder.after(c, a);
        builder.build().unwrap()
    }

    /// So many workers with so much each.
    pub(crate) fn cluster(workers: u32, capacity: &str) -> Cluster {
        let named: Resources = capacity.parse().unwrap();
        let capacity = with_plenty(&fork(), &named);
        Cluster { workers, named, capacity, policy: Policy::Spread }
    }

    fn makespan(workers: u32, capacity: &str) -> Duration {
        simulate(&fork(), &cluster(workers, capacity)).unwrap().answer.makespan
    }

    #[test]
    fn the_cluster_decides_how_long_a_run_takes() {
        assert_eq!(makespan(1, "cpu=1"), Duration::from_secs(6));
        assert_eq!(makespan(1, "cpu=2"), Duration::from_secs(4));
        assert_eq!(makespan(2, "cpu=1"), Duration::from_secs(4));
    }

    #[test]
    fn a_task_that_fits_no_worker_is_named_with_what_is_short() {
        let Err(Failure::Said { message, .. }) = simulate(&fork(), &cluster(3, "cpu=0.5")) else {
            panic!("it fits")
        };
        assert_eq!(message, "task `a` asks for cpu=1, and a worker has cpu=0.5: too little cpu");
    }
}
