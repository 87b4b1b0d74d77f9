//! Two lower bounds on the makespan of a run, from the measured times of its tasks.

use std::time::Duration;

use kahn_client::Task;
use kahn_model::{Dag, Resources, TaskIx, Timestamp, duration};

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
        let mut chains: Vec<Option<Chain>> = vec![None; self.dag.n_tasks()];
        for task in self.dag.topological_order() {
            let times = self.times[task.index()];
            let before = self
                .dag
                .dependencies(task)
                .filter_map(|dependency| chains[dependency.task.index()])
                .filter(|chain| times.is_none_or(|(start, _)| chain.end <= start))
                .max_by_key(|chain| chain.length);
            // A task that did not run passes on the chain before it.
            chains[task.index()] = match times {
                Some((_, end)) => {
                    let length = before.map_or(Duration::ZERO, |chain| chain.length);
                    Some(Chain { length: length + self.took(task), end })
                }
                None => before,
            };
        }
        chains.into_iter().flatten().map(|chain| chain.length).max().unwrap_or_default()
    }

    pub(super) fn area(&self, capacity: &Resources) -> Duration {
        duration::area(self.dag, capacity, |task| self.took(task))
    }
}

/// A chain of tasks, each of which started after the end of the one before.
#[derive(Clone, Copy, Debug)]
struct Chain {
    length: Duration,
    /// When its last task ended.
    end: Timestamp,
}

#[cfg(test)]
mod tests {
    use kahn_model::{Action, DagBuilder, Name, NewTask, RunPolicy, TaskState, Work};

    use super::super::super::run::tests::task;
    use super::*;

    /// `a`, then `b`, then `c`.
    fn chain() -> Dag {
        let mut builder = DagBuilder::new(Name::new("chain").unwrap(), RunPolicy::default());
        let mut add = |name: &str| {
            let new = NewTask::new(Name::new(name).unwrap(), Work::new(Action::Noop));
            builder.task(new).unwrap()
        };
        let (a, b, c) = (add("a"), add("b"), add("c"));
        builder.after(b, a);
        builder.after(c, b);
        builder.build().unwrap()
    }

    fn path(times: &[(&str, u64, u64)]) -> Duration {
        let dag = chain();
        let mut observed = Observed::new(&dag);
        for (name, start, end) in times {
            observed.take(&task(name, TaskState::Succeeded, *start, *end));
        }
        observed.critical_path()
    }

    #[test]
    fn tasks_that_overlapped_are_not_one_chain_even_across_a_skipped_task() {
        assert_eq!(path(&[("a", 0, 5), ("b", 5, 7), ("c", 7, 10)]), Duration::from_micros(10));
        assert_eq!(path(&[("a", 0, 5), ("c", 5, 8)]), Duration::from_micros(8));
        assert_eq!(path(&[("a", 0, 5), ("c", 3, 6)]), Duration::from_micros(5));
    }
}
