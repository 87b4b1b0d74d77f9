//! How long the tasks of a DAG take: expected values for estimates and least values for bounds.

use std::time::Duration;

use crate::action::Action;
use crate::dag::{Dag, DependencyKind, DependencyRef, Trigger, When};
use crate::ids::TaskIx;
use crate::resources::{Resource, Resources};

/// Two lower bounds on the makespan of any schedule of a DAG on some workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LowerBound {
    /// The length of the longest chain of tasks that wait for each other's ends.
    pub chain: Duration,
    /// How long all tasks together keep the workers busy.
    pub area: Duration,
}

impl LowerBound {
    /// Returns the bounds for a run without failures on workers with the total `capacity`, if the
    /// estimates are right.
    #[must_use]
    pub fn of(dag: &Dag, capacity: &Resources) -> Self {
        let least = least(dag);
        let took = |task: TaskIx| least[task.index()];
        let area = area(dag, capacity, |task| took(task).unwrap_or_default());
        Self { chain: longest_chain(dag, took), area }
    }

    /// Returns the larger one.
    #[must_use]
    pub fn larger(&self) -> Duration {
        self.chain.max(self.area)
    }
}

/// Returns what is assumed for a task of unknown duration: the mean of the estimates of all tasks
/// that take time, or one second if there are none.
#[must_use]
pub fn usual(dag: &Dag) -> Duration {
    // Markers and other tasks that take no time say nothing about those that do.
    let known = || dag.tasks().filter_map(|task| dag.estimate(task)).filter(|time| !time.is_zero());
    match u32::try_from(known().count()) {
        Ok(n) if n > 0 => known().sum::<Duration>() / n,
        _ => Duration::from_secs(1),
    }
}

/// Returns the expected run time of each task: its estimate, zero for a task that does nothing, or
/// else the [`usual`] one.
///
/// This is a guess. A lower bound is computed from [`least`].
#[must_use]
pub fn expected(dag: &Dag) -> Vec<Duration> {
    let usual = usual(dag);
    let guess = |task| if dag.work(task).action == Action::Noop { Duration::ZERO } else { usual };
    dag.tasks().map(|task| dag.estimate(task).unwrap_or_else(|| guess(task))).collect()
}

/// Returns the shortest run time of each task in a run without failures, if the estimates are
/// right: zero for a task without an estimate, and `None` for one that may be skipped.
#[must_use]
pub fn least(dag: &Dag) -> Vec<Option<Duration>> {
    let mut least = vec![None; dag.n_tasks()];
    for task in dag.topological_order() {
        if runs(dag, task, |dependency| least[dependency.task.index()].is_some()) {
            least[task.index()] = Some(dag.estimate(task).unwrap_or_default());
        }
    }
    least
}

/// Returns whether `task` certainly runs in a run without failures.
fn runs(dag: &Dag, task: TaskIx, is_certain: impl Fn(DependencyRef) -> bool) -> bool {
    let is_met = |dependency: DependencyRef| {
        dependency.when != When::Failed
            && (dependency.kind == DependencyKind::Soft || is_certain(dependency))
    };
    dag.condition(task).is_none()
        && dag.trigger(task) != Trigger::AnyFailed
        && dag.dependencies(task).all(is_met)
}

/// Returns the length of the longest chain of tasks in which each waits for the end of the one
/// before. If each task takes at least as long as `took` says, this is a lower bound of the makespan
/// of any schedule.
///
/// Unlike the critical path, a chain has no dependencies whose end is not waited for in every case:
/// of a start, of one of several, or for a limited time. It has no tasks without a run time either:
/// they did not run, or may not, and a skipped task need not have waited for anything.
#[must_use]
pub fn longest_chain(dag: &Dag, took: impl Fn(TaskIx) -> Option<Duration>) -> Duration {
    let mut ends = vec![Duration::ZERO; dag.n_tasks()];
    for task in dag.topological_order() {
        let Some(took) = took(task) else { continue };
        let before = dag
            .dependencies(task)
            .filter(|dependency| waits_for_end(dag.trigger(task), *dependency))
            .map(|dependency| ends[dependency.task.index()])
            .max()
            .unwrap_or_default();
        ends[task.index()] = before + took;
    }
    ends.into_iter().max().unwrap_or_default()
}

/// Returns how long workers with the total `capacity` are busy with all tasks at full utilisation:
/// the maximum over all resources.
#[must_use]
pub fn area(dag: &Dag, capacity: &Resources, took: impl Fn(TaskIx) -> Duration) -> Duration {
    let busy = |resource: &Resource, whole: u64| {
        let total: u128 = dag
            .tasks()
            .map(|task| {
                let held = dag.profile(task).resources.get(resource);
                u128::from(held) * took(task).as_micros()
            })
            .fold(0, u128::saturating_add);
        total / u128::from(whole.max(1))
    };
    let by_resource = capacity.iter().map(|(resource, whole)| busy(&resource, whole));
    let by_limit = dag.policy().max_parallel.map(|limit| {
        let total: u128 = dag.tasks().map(|task| took(task).as_micros()).sum();
        total / u128::from(limit.max(1))
    });
    let micros = by_resource.chain(by_limit).max().unwrap_or(0);
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

fn waits_for_end(trigger: Trigger, dependency: DependencyRef) -> bool {
    let waits_for_all =
        matches!(trigger, Trigger::AllSucceeded | Trigger::AllDone | Trigger::NoneFailed);
    let is_end = matches!(dependency.when, When::Succeeded | When::Completed | When::Failed);
    waits_for_all && is_end && !dependency.is_timed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Shell, Work};
    use crate::dag::{Condition, DagBuilder, NewTask};
    use crate::name::Name;
    use crate::policy::RunPolicy;

    fn seconds(all: &[u64]) -> Vec<Duration> {
        all.iter().map(|seconds| Duration::from_secs(*seconds)).collect()
    }

    fn sleep(name: &str, seconds: u64) -> NewTask {
        let duration = Duration::from_secs(seconds);
        NewTask::new(Name::new(name).unwrap(), Work::new(Action::Sleep { duration }))
    }

    fn unknown(name: &str) -> NewTask {
        let action = Action::Run { script: "true".into(), shell: Shell::Sh };
        NewTask::new(Name::new(name).unwrap(), Work::new(action))
    }

    fn builder() -> DagBuilder {
        DagBuilder::new(Name::new("d").unwrap(), RunPolicy::default())
    }

    #[test]
    fn an_unknown_duration_is_guessed_in_an_estimate_and_zero_in_a_bound() {
        let mut b = builder();
        let noop = NewTask::new(Name::new("n").unwrap(), Work::new(Action::Noop));
        for task in [sleep("zero", 0), sleep("two", 2), sleep("four", 4), noop, unknown("u")] {
            b.task(task).unwrap();
        }
        let dag = b.build().unwrap();
        assert_eq!(dag.estimate(TaskIx(0)), Some(Duration::ZERO), "a known zero");
        assert_eq!(expected(&dag), seconds(&[0, 2, 4, 0, 3]));
        let least: Option<Vec<Duration>> = least(&dag).into_iter().collect();
        assert_eq!(least, Some(seconds(&[0, 2, 4, 0, 0])));
    }

    #[test]
    fn a_task_that_may_be_skipped_is_not_part_of_a_bound() {
        let mut b = builder();
        let a = b.task(sleep("a", 1)).unwrap();
        let condition = Some(Condition("false".into()));
        let perhaps = b.task(NewTask { condition, ..sleep("perhaps", 2) }).unwrap();
        let after = b.task(sleep("after", 3)).unwrap();
        let handler = b.task(sleep("handler", 4)).unwrap();
        b.after(perhaps, a);
        b.after(after, perhaps);
        b.depends(handler, a, When::Failed, DependencyKind::Required, None);
        let dag = b.build().unwrap();
        assert_eq!(least(&dag), [Some(Duration::from_secs(1)), None, None, None]);
        assert_eq!(longest_chain(&dag, |task| least(&dag)[task.index()]).as_secs(), 1);
    }

    #[test]
    fn a_chain_consists_of_tasks_that_wait_for_each_others_ends() {
        let chain = |trigger, when, timeout| {
            let mut b = builder();
            let a = b.task(sleep("a", 2)).unwrap();
            let c = b.task(NewTask { trigger, ..sleep("c", 3) }).unwrap();
            b.depends(c, a, when, DependencyKind::Optional, timeout);
            let dag = b.build().unwrap();
            longest_chain(&dag, |task| dag.estimate(task)).as_secs()
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(chain(Trigger::AllSucceeded, When::Succeeded, None), 5);
        assert_eq!(chain(Trigger::AllDone, When::Completed, None), 5);
        assert_eq!(chain(Trigger::AllSucceeded, When::Started, None), 3);
        assert_eq!(chain(Trigger::AnySucceeded, When::Succeeded, None), 3);
        assert_eq!(chain(Trigger::AllSucceeded, When::Succeeded, second), 3);
    }
}
