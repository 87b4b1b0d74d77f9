//! Lists runs and tasks in pages. A page starts after the last id of the previous one, so all pages
//! cost the same.

use std::collections::BTreeSet;

use kahn_core::{Run, RunSummary};
use kahn_model::{RunId, RunRef, RunState, TaskIx, TaskState};

use super::view::Times;
use super::{RunView, Service, ServiceError, TaskView};

/// Runs per page: the default and the maximum.
const RUNS_PER_PAGE: (u32, u32) = (100, 1_000);
/// Tasks per page: the default and the maximum.
const TASKS_PER_PAGE: (u32, u32) = (1_000, 10_000);
/// Maximum number of runs examined for one page, regardless of the filter.
const RUNS_LOOKED_AT: usize = 20_000;

/// A filter for runs. Empty fields match every run.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunFilter {
    pub namespace: String,
    /// The name of the DAG.
    pub dag: String,
    pub states: Vec<RunState>,
    /// Labels that a run must have; all of them must match.
    pub labels: Vec<(String, String)>,
}

/// A page of matching runs, newest first.
#[derive(Clone, Debug)]
pub(crate) struct RunPage {
    pub runs: Vec<RunView>,
    /// Where the next page starts; `None` on the last one.
    pub next: Option<RunId>,
}

/// A filter for tasks. Empty fields match every task.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskFilter {
    pub states: Vec<TaskState>,
    pub names: Vec<String>,
}

/// A page of matching tasks, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct TaskPage {
    pub tasks: Vec<TaskView>,
    /// Where the next page starts; `None` on the last one.
    pub next: Option<u32>,
}

fn page_size(asked: u32, (usual, max): (u32, u32)) -> usize {
    let size = if asked == 0 { usual } else { asked.min(max) };
    usize::try_from(size).unwrap_or(usize::MAX)
}

impl Service {
    /// Returns a page of runs older than `before`; a size of zero means the default.
    pub(crate) async fn list_runs(
        &self,
        filter: RunFilter,
        before: Option<RunId>,
        size: u32,
    ) -> Result<RunPage, ServiceError> {
        let size = page_size(size, RUNS_PER_PAGE);
        let listed = self.handle.query(move |core| {
            let mut runs = Vec::new();
            let mut last: Option<RunId> = None;
            for run in core.state().summaries_before(before).take(RUNS_LOOKED_AT) {
                last = Some(run.run);
                if is_wanted(&run, &filter) {
                    let is_archived = core.state().archived_run(run.run).is_some();
                    runs.push(RunView { is_archived, ..RunView::in_list(&run) });
                }
                if runs.len() == size {
                    break;
                }
            }
            let has_more =
                |last: &RunId| core.state().summaries_before(Some(*last)).next().is_some();
            RunPage { runs, next: last.filter(has_more) }
        });
        Ok(listed.await?)
    }

    /// Returns a page of the tasks of a run, starting with task number `start`; a size of zero
    /// means the default.
    pub(crate) async fn list_tasks(
        &self,
        run: RunRef,
        filter: TaskFilter,
        start: u32,
        size: u32,
    ) -> Result<TaskPage, ServiceError> {
        let size = page_size(size, TASKS_PER_PAGE);
        let run = self.resolve(run).await?;
        let named: BTreeSet<TaskIx> =
            self.find_tasks(run, filter.names).await?.into_iter().collect();
        let states = filter.states;
        self.ask(run.into(), move |_, run| tasks(run, &named, &states, start, size)).await
    }
}

fn is_wanted(run: &RunSummary<'_>, filter: &RunFilter) -> bool {
    let has_label = |(key, value): &(String, String)| {
        run.labels.get(key.as_str()).is_some_and(|found| **found == **value)
    };
    (filter.namespace.is_empty() || run.namespace.as_str() == filter.namespace)
        && (filter.dag.is_empty() || run.dag.as_str() == filter.dag)
        && (filter.states.is_empty() || filter.states.contains(&run.state))
        && filter.labels.iter().all(has_label)
}

fn tasks(
    run: &Run,
    named: &BTreeSet<TaskIx>,
    states: &[TaskState],
    start: u32,
    size: usize,
) -> TaskPage {
    let is_wanted = |task: &TaskIx| {
        (named.is_empty() || named.contains(task))
            && (states.is_empty() || states.contains(&run.cell(*task).state))
    };
    let times = Times::of(run);
    let mut found = run.dag.tasks().filter(|task| task.0 >= start).filter(is_wanted);
    let page: Vec<TaskIx> = found.by_ref().take(size).collect();
    let next = found.next().map(|task| task.0);
    let with_dependencies = named.len() == 1;
    let tasks = page.into_iter().map(|task| TaskView::of(run, task, &times, with_dependencies));
    TaskPage { tasks: tasks.collect(), next }
}
