//! How short a run could have been: two lower bounds of its makespan.

use std::time::Duration;

use kahn_client::Task;
use kahn_model::{Dag, Resource, Resources, TaskIx, Timestamp};

/// When each task of a DAG started and ended.
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

    /// The longest chain of tasks that waited for one another. A dependency that a task did not
    /// wait for to its end (one of several that would do, or one that only had to start) is no part
    /// of a chain.
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

/// How long workers with `capacity` together are busy with all tasks, were they always full: the
/// largest of that over all resources.
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
