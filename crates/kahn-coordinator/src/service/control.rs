//! Operations on a single run.

use kahn_core::{Event, Explanation, Refusal, RetryScope};
use kahn_model::{Dag, RunId, RunRef, TaskIx};

use super::{RunView, Service, ServiceError};

/// Which tasks of a finished run are retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryWhich {
    /// All tasks that failed, were cancelled, or were skipped because of those.
    Failed,
    /// The named tasks and all their direct and indirect dependents.
    From,
    /// Only the named tasks.
    Only,
}

/// A request to retry tasks of a finished run.
#[derive(Clone, Debug)]
pub(crate) struct RetryRequest {
    pub run: RunRef,
    pub which: RetryWhich,
    /// Task names; empty with [`RetryWhich::Failed`].
    pub tasks: Vec<String>,
}

/// Maximum number of names compared with an unknown one.
const NAMES_COMPARED_MAX: usize = 100_000;

/// Returns the error for an unknown task name, with the most similar name in the DAG.
///
/// This compares many names, so it must not run on the driver's task.
pub(super) fn unknown_task(run: RunId, dag: &Dag, task: String) -> ServiceError {
    let names = dag.tasks().take(NAMES_COMPARED_MAX).map(|task| dag.task_name(task));
    let nearest = kahn_spec::nearest(&task, names).map(str::to_owned);
    let mut error = ServiceError::from(Refusal::UnknownTask { run, task });
    if let Some(nearest) = nearest {
        error.message.push_str(&format!("; did you mean `{nearest}`?"));
    }
    error
}

impl Service {
    /// Returns a run, with what its ready tasks wait for.
    pub(crate) async fn get(&self, run: RunRef) -> Result<RunView, ServiceError> {
        let (view, is_archived) = self.ask_either(run, RunView::with_waiting).await?;
        Ok(RunView { is_archived, ..view })
    }

    /// Cancels a run.
    pub(crate) async fn cancel(&self, run: RunRef, reason: &str) -> Result<RunView, ServiceError> {
        let run = self.resolve(run).await?;
        self.change(run, Event::CancelRequested { run, reason: reason.into() }).await
    }

    /// Pauses a run: nothing new in it starts.
    pub(crate) async fn pause(&self, run: RunRef) -> Result<RunView, ServiceError> {
        let run = self.resolve(run).await?;
        self.change(run, Event::PauseRequested { run }).await
    }

    /// Resumes a paused run.
    pub(crate) async fn resume(&self, run: RunRef) -> Result<RunView, ServiceError> {
        let run = self.resolve(run).await?;
        self.change(run, Event::ResumeRequested { run }).await
    }

    /// Retries tasks of a finished run.
    pub(crate) async fn retry(&self, request: RetryRequest) -> Result<RunView, ServiceError> {
        let run = self.resolve(request.run).await?;
        let has_tasks = !request.tasks.is_empty();
        let tasks = self.find_tasks(run, request.tasks).await?;
        let scope = match (request.which, has_tasks) {
            (RetryWhich::From, true) => RetryScope::From(tasks),
            (RetryWhich::Only, true) => RetryScope::Only(tasks),
            (RetryWhich::Failed, false) => RetryScope::Failed,
            (RetryWhich::Failed, true) => {
                return Err(ServiceError::invalid("tasks", "none are named with scope failed"));
            }
            (RetryWhich::From | RetryWhich::Only, false) => {
                return Err(ServiceError::invalid("tasks", "name at least one"));
            }
        };
        self.restore_and_retry(run, scope).await?;
        self.ask(RunRef::Id(run), |_, run| RunView::of(run)).await
    }

    /// Explains why a task is in its state.
    pub(crate) async fn explain(
        &self,
        run: RunRef,
        task: String,
    ) -> Result<Explanation, ServiceError> {
        let (run, task) = self.find_task(run, task).await?;
        let explained = self.ask(run.into(), move |core, run| core.explain(run.id(), task)).await?;
        explained.ok_or_else(|| Refusal::UnknownRun(run).into())
    }

    /// Returns the task with this name.
    pub(super) async fn find_task(
        &self,
        run: RunRef,
        task: String,
    ) -> Result<(RunId, TaskIx), ServiceError> {
        let run = self.resolve(run).await?;
        let found = self.find_tasks(run, vec![task]).await?;
        found.first().map(|task| (run, *task)).ok_or_else(|| Refusal::UnknownRun(run).into())
    }

    /// Returns the tasks with these names, in the same order.
    pub(super) async fn find_tasks(
        &self,
        run: RunId,
        names: Vec<String>,
    ) -> Result<Vec<TaskIx>, ServiceError> {
        let dag = self.ask(run.into(), |_, run| std::sync::Arc::clone(&run.dag)).await?;
        let find = |name: String| match dag.task_by_name(&name) {
            Some(task) => Ok(task),
            None => Err(unknown_task(run, &dag, name)),
        };
        names.into_iter().map(find).collect()
    }
}
