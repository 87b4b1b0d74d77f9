//! Levels of the tasks of a DAG: the amount of work before and after each task.

use std::time::Duration;

use crate::dag::Dag;
use crate::ids::TaskIx;

/// The levels of all tasks, by position.
///
/// The b-level is HEFT's upward rank without communication costs (Topcuoglu, Hariri, Wu,
/// "Performance-effective and low-complexity task scheduling", TPDS 2002).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The longest path from the task (inclusive) to an exit, in microseconds.
    pub b_level: Vec<u64>,
    /// The longest path from an entry to the task (exclusive), in microseconds.
    pub t_level: Vec<u64>,
    /// The maximum number of dependencies on any path from an entry to the task.
    pub phase: Vec<u32>,
}

impl Levels {
    /// Returns the length of the critical path in microseconds. This is no lower bound of the
    /// makespan: see [`crate::duration::LowerBound`].
    #[must_use]
    pub fn critical_path_micros(&self) -> u64 {
        self.b_level.iter().copied().max().unwrap_or(0)
    }
}

/// Computes all levels. `weight` returns the run time of a task.
#[must_use]
pub fn levels(dag: &Dag, weight: impl Fn(TaskIx) -> Duration) -> Levels {
    let order = dag.topological_order();
    let weigh = |task| u64::try_from(weight(task).as_micros()).unwrap_or(u64::MAX);
    let n = dag.n_tasks();
    let mut out = Levels { b_level: vec![0; n], t_level: vec![0; n], phase: vec![0; n] };
    for task in &order {
        let done = out.t_level[task.index()].saturating_add(weigh(*task));
        let phase = out.phase[task.index()] + 1;
        for dependent in dag.dependents(*task) {
            let at = dependent.task.index();
            out.t_level[at] = out.t_level[at].max(done);
            out.phase[at] = out.phase[at].max(phase);
        }
    }
    for task in order.iter().rev() {
        let behind = dag.dependents(*task).map(|d| out.b_level[d.task.index()]).max().unwrap_or(0);
        out.b_level[task.index()] = behind.saturating_add(weigh(*task));
    }
    out
}

/// Returns the tasks of the critical path in order. If several paths have the same length, the
/// tasks that were added first are preferred.
#[must_use]
pub fn critical_path(dag: &Dag, levels: &Levels) -> Vec<TaskIx> {
    let first_largest = |tasks: &mut dyn Iterator<Item = TaskIx>| {
        tasks.min_by_key(|t| (std::cmp::Reverse(levels.b_level[t.index()]), *t))
    };
    let mut path = Vec::new();
    let mut at = first_largest(&mut dag.tasks());
    while let Some(task) = at {
        path.push(task);
        at = first_largest(&mut dag.dependents(task).map(|d| d.task));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Action, Work};
    use crate::dag::{DagBuilder, NewTask};
    use crate::name::Name;
    use crate::policy::RunPolicy;

    #[test]
    fn levels_and_critical_path_follow_the_longest_sleeps() {
        let mut b = DagBuilder::new(Name::new("d").unwrap(), RunPolicy::default());
        let mut sleep = |name: &str, seconds| {
            let action = Action::Sleep { duration: Duration::from_secs(seconds) };
            b.task(NewTask::new(Name::new(name).unwrap(), Work::new(action))).unwrap()
        };
        let (a, short, long, end) =
            (sleep("a", 1), sleep("short", 2), sleep("long", 5), sleep("end", 1));
        for (dependent, dependency) in [(short, a), (long, a), (end, short), (end, long)] {
            b.after(dependent, dependency);
        }
        let dag = b.build().unwrap();
        let levels = levels(&dag, |task| dag.estimate(task).unwrap());
        assert_eq!(levels.b_level, [7_000_000, 3_000_000, 6_000_000, 1_000_000]);
        assert_eq!(levels.t_level, [0, 1_000_000, 1_000_000, 6_000_000]);
        assert_eq!(levels.phase, [0, 1, 1, 2]);
        assert_eq!(critical_path(&dag, &levels), [a, long, end]);
        assert_eq!(levels.critical_path_micros(), 7_000_000);
    }
}
