//! Runs and tasks, a page at a time. A page starts after the last id of the one before, so it
//! costs the same wherever it is.

use std::collections::BTreeSet;

use kahn_core::Run;
use kahn_model::{RunId, TaskIx};
use kahn_proto::api;
use tonic::Status;

use super::{RunService, run_id};
use crate::grpc::{refuse, view};

const RUNS_PER_PAGE: (u32, u32) = (100, 1_000);
const TASKS_PER_PAGE: (u32, u32) = (1_000, 10_000);
/// Runs looked at for one page, whatever the filter lets through.
const RUNS_LOOKED_AT: usize = 20_000;

fn page_size(asked: u32, (usual, max): (u32, u32)) -> usize {
    let size = if asked == 0 { usual } else { asked.min(max) };
    usize::try_from(size).unwrap_or(usize::MAX)
}

impl RunService {
    pub(super) async fn list_runs(
        &self,
        request: api::ListRequest,
    ) -> Result<api::ListResponse, Status> {
        let before = match request.page.as_str() {
            "" => None,
            page => Some(run_id(page)?),
        };
        let size = page_size(request.page_size, RUNS_PER_PAGE);
        self.handle
            .query(move |core| {
                let mut runs = Vec::new();
                let mut last: Option<RunId> = None;
                let mut rest = core.state().runs_before(before).take(RUNS_LOOKED_AT);
                for run in &mut rest {
                    last = Some(run.id());
                    if is_wanted(run, &request) {
                        runs.push(view::run(run, false));
                    }
                    if runs.len() == size {
                        break;
                    }
                }
                let has_more =
                    last.is_some_and(|last| core.state().runs_before(Some(last)).next().is_some());
                let next_page = last.filter(|_| has_more).map(|last| last.to_string());
                api::ListResponse { runs, next_page: next_page.unwrap_or_default() }
            })
            .await
            .map_err(refuse::status)
    }

    pub(super) async fn list_tasks_of(
        &self,
        request: api::ListTasksRequest,
    ) -> Result<api::ListTasksResponse, Status> {
        let run = run_id(&request.run)?;
        let start = match request.page.as_str() {
            "" => 0,
            page => page.parse().map_err(|error| refuse::invalid("page", error))?,
        };
        let size = page_size(request.page_size, TASKS_PER_PAGE);
        self.ask(run, move |run| tasks(run, &request, start, size)).await?
    }
}

fn is_wanted(run: &Run, request: &api::ListRequest) -> bool {
    let state = i32::from(view::run_state(run.state));
    let has_label = |(key, value): (&String, &String)| {
        run.submission.labels.get(key.as_str()).is_some_and(|found| **found == **value)
    };
    (request.namespace.is_empty() || run.submission.namespace.as_str() == request.namespace)
        && (request.dag.is_empty() || run.dag.name().as_str() == request.dag)
        && (request.states.is_empty() || request.states.contains(&state))
        && request.labels.iter().all(has_label)
}

fn tasks(
    run: &Run,
    request: &api::ListTasksRequest,
    start: u32,
    size: usize,
) -> Result<api::ListTasksResponse, Status> {
    let named: Result<BTreeSet<TaskIx>, Status> = request
        .names
        .iter()
        .map(|name| {
            let unknown = || kahn_core::Refusal::UnknownTask { run: run.id(), task: name.clone() };
            run.dag.task_by_name(name).ok_or_else(|| refuse::status(unknown().into()))
        })
        .collect();
    let named = named?;
    let is_wanted = |task: &TaskIx| {
        let state = i32::from(view::task_state(run.cell(*task).state));
        (named.is_empty() || named.contains(task))
            && (request.states.is_empty() || request.states.contains(&state))
    };
    let times = view::Times::of(run);
    let mut found = run.dag.tasks().filter(|task| task.0 >= start).filter(is_wanted);
    let page: Vec<TaskIx> = found.by_ref().take(size).collect();
    let next_page = found.next().map(|task| task.0.to_string()).unwrap_or_default();
    let with_dependencies = named.len() == 1;
    let tasks =
        page.into_iter().map(|task| view::task(run, task, &times, with_dependencies)).collect();
    Ok(api::ListTasksResponse { tasks, next_page })
}
