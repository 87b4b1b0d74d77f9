//! Simulates a DAG on a hypothetical cluster.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use kahn_core::Spreading;
use kahn_model::duration::{self, LowerBound};
use kahn_model::{Dag, LabelRule, Labels, Resource, Resources, TaskIx};
use kahn_sim::{Simulation, WhatIf, WorkerShape};

use crate::exit::Failure;

/// The hypothetical cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Number of identical workers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub workers: u32,
    /// CPUs of each worker [default: those of this host]
    #[arg(long, value_name = "C")]
    pub cpu: Option<String>,
    /// Capacity of each worker, such as cpu=2,memory=4Gi; resources not listed are unlimited
    /// [default: CPU and memory of this host]
    #[arg(long, value_name = "AMOUNTS", conflicts_with = "cpu")]
    pub capacity: Option<String>,
    /// Which of several workers with free resources gets a task
    #[arg(long, value_enum, default_value_t)]
    pub policy: Policy,
}

/// Which of several workers with free resources gets a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// The least loaded
    #[default]
    Spread,
    /// The most loaded
    Pack,
}

/// The hypothetical cluster, parsed.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// The number of workers.
    pub workers: u32,
    /// The given capacity of each worker.
    pub named: Resources,
    /// The given capacity, with enough of all other resources.
    pub capacity: Resources,
    /// The placement policy.
    pub policy: Policy,
}

/// The expected schedule of a run, with the input of the simulation.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedSchedule {
    /// The input of the simulation.
    pub question: WhatIf,
    /// The result of the simulation.
    pub answer: Simulation,
}

impl ClusterArgs {
    /// Parses the arguments into a cluster for this DAG.
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
            return Err(refuse("a worker needs cpu".to_owned()).advise("pass --cpu 2"));
        }
        let capacity = with_plenty(dag, &named);
        Ok(Cluster { workers: self.workers, named, capacity, policy: self.policy })
    }
}

fn parse(text: &str) -> Result<Resources, Failure> {
    text.parse()
        .map_err(|error: kahn_model::InvalidResources| Failure::bad_input(error.to_string()))
}

/// Adds as much of each resource not listed as all tasks together request.
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
    /// Returns the lower bounds on the makespan of any schedule on this cluster.
    pub(crate) fn lower_bound(&self, dag: &Dag) -> LowerBound {
        LowerBound::of(dag, &self.whole())
    }

    /// Returns the total given capacity of all workers.
    fn whole(&self) -> Resources {
        let mut whole = Resources::none();
        for (resource, amount) in self.named.iter() {
            whole.set(&resource, amount.saturating_mul(u64::from(self.workers)));
        }
        whole
    }
}

/// Simulates a run of `dag` on `cluster` in which each task takes as long as expected and succeeds.
pub(crate) fn simulate(dag: &Dag, cluster: &Cluster) -> Result<SimulatedSchedule, Failure> {
    let labels = labels(dag);
    if let Some((task, why)) = infeasible(dag, cluster, &labels) {
        let message = format!("task `{}` {why}", dag.task_name(task));
        return Err(Failure::bad_input(message).advise("simulate larger workers with --capacity"));
    }
    let n_workers = usize::try_from(cluster.workers).unwrap_or(usize::MAX);
    let mut workers = WorkerShape::alike(n_workers, &cluster.capacity);
    workers.iter_mut().for_each(|worker| worker.labels.clone_from(&labels));
    let policy = match cluster.policy {
        Policy::Spread => Spreading::Spread,
        Policy::Pack => Spreading::Pack,
    };
    let durations = Some(duration::expected(dag));
    let question = WhatIf { policy, durations, ..WhatIf::on(workers) };
    let answer = kahn_sim::simulate(&Arc::new(dag.clone()), &question);
    Ok(SimulatedSchedule { question, answer })
}

/// Returns worker labels that satisfy the selectors of the tasks, as far as possible.
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

/// Returns the first task that no worker of the cluster can run, and the reason.
fn infeasible(dag: &Dag, cluster: &Cluster, labels: &Labels) -> Option<(TaskIx, String)> {
    dag.tasks().find_map(|task| {
        let profile = dag.profile(task);
        if let Some((resource, _, _)) = profile.resources.shortage(&cluster.capacity) {
            let (wanted, found) = (profile.resources.rounded(), cluster.named.rounded());
            let why = format!("requests {wanted}, but a worker has {found}: too little {resource}");
            return Some((task, why));
        }
        let rules = &profile.selector.required;
        let broken = rules.iter().find(|rule| !rule.matches(labels))?;
        Some((task, format!("requires a worker where {broken}, unlike other tasks")))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use kahn_model::{Action, DagBuilder, Name, NewTask, RunPolicy, Work};

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

    /// Creates a cluster of identical workers.
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
        assert_eq!(message, "task `a` requests cpu=1, but a worker has cpu=0.5: too little cpu");
    }
}
