//! Two lower bounds on the makespan of a run.

use std::time::Duration;

use kahn_client::Task;
use kahn_model::{Dag, Resource, Resources, TaskIx, Timestamp};

/// The start and end times of the tasks of a DAG.
#[derive(Debug)]
pub(super) struct Observed<'a> {
    dag: &'a Dag,
    times: Vec<Option<(Timestamp, Timestamp)>>,
}

impl<'a> Observed<'a> {
    pub(super) fn new(dag: &'a Dag) -> Self {
        Self { dag, times: vec![None; dag.n_tasks()] }
    }

    pub(super) fn take(&mut self, task: &Task) {
        if let (Some(ix), Some(start), Some(end)) =
            (self.dag.task_by_name(&task.name), task.started_at, task.finished_at)
        {
            self.times[ix.index()] = Some((start, end));
        }
    }

    fn took(&self, task: TaskIx) -> Duration {
        self.times[task.index()].map_or(Duration::ZERO, |(start, end)| end.since(start))
    }

    /// Returns the length of the longest chain of tasks that waited for each other. Dependencies
    /// whose end a task did not wait for are not part of a chain: for example, if any one of
    /// several was sufficient, or if a start was sufficient.
    pub(super) fn critical_path(&self) -> Duration {
        let mut ends = vec![Duration::ZERO; self.dag.n_tasks()];
        let mut longest = Duration::ZERO;
        for task in self.dag.topological_order() {
            let before = self
                .dag
                .dependencies(task)
                .filter(|dependency| self.waited(task, dependency.task))
                .map(|dependency| ends[dependency.task.index()])
                .max()
                .unwrap_or(Duration::ZERO);
            let end = before + self.took(task);
            ends[task.index()] = end;
            longest = longest.max(end);
        }
        longest
    }

    fn waited(&self, task: TaskIx, dependency: TaskIx) -> bool {
        match (self.times[task.index()], self.times[dependency.index()]) {
            (Some((start, _)), Some((_, end))) => end <= start,
            _ => true,
        }
    }

    pub(super) fn area(&self, capacity: &Resources) -> Duration {
        area(self.dag, capacity, |task| self.took(task))
    }
}

/// Returns how long workers with the total `capacity` are busy with all tasks at full utilisation:
/// the maximum over all resources.
pub(crate) fn area(dag: &Dag, capacity: &Resources, took: impl Fn(TaskIx) -> Duration) -> Duration {
    let busy = |resource: &Resource, whole: u64| {
        let total: u128 = dag
            .tasks()
            .map(|task| {
                let held = dag.profile(task).resources.get(resource);
                u128::from(held) * took(task).as_micros()
            })
            .fold(0, u128::saturating_add);
        total / u128::from(whole)
    };
    let by_resource = capacity.iter().map(|(resource, whole)| busy(&resource, whole));
    let by_limit = dag.policy().max_parallel.map(|limit| {
        let total: u128 = dag.tasks().map(|task| took(task).as_micros()).sum();
        total / u128::from(limit.max(1))
    });
    let micros = by_resource.chain(by_limit).max().unwrap_or(0);
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}
