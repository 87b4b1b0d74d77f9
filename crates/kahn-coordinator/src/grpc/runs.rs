//! Calls about runs.

mod list;
mod logs;
mod submit;
mod watch;

use std::pin::Pin;

use futures_util::Stream;
use kahn_core::{Event, RetryScope, Run};
use kahn_model::RunId;
use kahn_proto::api;
use kahn_proto::api::runs_server::Runs;
use tonic::{Request, Response, Status, Streaming};

use super::{refuse, view};
use crate::config::Limits;
use crate::driver::Handle;
use crate::logs::Logs;
use crate::watchers::Watchers;

/// The service that people and programs call about runs.
#[derive(Clone, Debug)]
pub(crate) struct RunService {
    pub handle: Handle,
    pub watchers: Watchers,
    pub logs: Logs,
    pub limits: Limits,
}

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn run_id(text: &str) -> Result<RunId, Status> {
    text.parse().map_err(|_| {
        Status::invalid_argument(format!("run: `{text}` is not a run id; `list` shows the ids"))
    })
}

fn unknown_run(run: RunId) -> Status {
    refuse::status(kahn_core::Refusal::UnknownRun(run).into())
}

impl RunService {
    /// Asks something of a run.
    async fn ask<T: Send + 'static>(
        &self,
        run: RunId,
        question: impl FnOnce(&Run) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let answer = self.handle.query(move |core| core.state().run(run).map(question)).await;
        answer.map_err(refuse::status)?.ok_or_else(|| unknown_run(run))
    }

    async fn change(&self, run: RunId, event: Event) -> Result<Response<api::Run>, Status> {
        self.handle.request(event).await.map_err(refuse::status)?;
        self.ask(run, |run| view::run(run, true)).await.map(Response::new)
    }
}

#[tonic::async_trait]
impl Runs for RunService {
    type WatchStream = Out<api::WatchResponse>;
    type LogsStream = Out<api::LogsResponse>;

    async fn submit(
        &self,
        request: Request<Streaming<api::SubmitRequest>>,
    ) -> Result<Response<api::SubmitResponse>, Status> {
        self.take_submission(request.into_inner()).await.map(Response::new)
    }

    async fn get(&self, request: Request<api::GetRequest>) -> Result<Response<api::Run>, Status> {
        let run = run_id(&request.into_inner().run)?;
        let found = self.handle.query(move |core| view::run_with_waiting(core, run)).await;
        found.map_err(refuse::status)?.map(Response::new).ok_or_else(|| unknown_run(run))
    }

    async fn list(
        &self,
        request: Request<api::ListRequest>,
    ) -> Result<Response<api::ListResponse>, Status> {
        self.list_runs(request.into_inner()).await.map(Response::new)
    }

    async fn list_tasks(
        &self,
        request: Request<api::ListTasksRequest>,
    ) -> Result<Response<api::ListTasksResponse>, Status> {
        self.list_tasks_of(request.into_inner()).await.map(Response::new)
    }

    async fn cancel(
        &self,
        request: Request<api::CancelRequest>,
    ) -> Result<Response<api::Run>, Status> {
        let api::CancelRequest { run, reason } = request.into_inner();
        let run = run_id(&run)?;
        self.change(run, Event::CancelRequested { run, reason: reason.into() }).await
    }

    async fn pause(
        &self,
        request: Request<api::PauseRequest>,
    ) -> Result<Response<api::Run>, Status> {
        let run = run_id(&request.into_inner().run)?;
        self.change(run, Event::PauseRequested { run }).await
    }

    async fn resume(
        &self,
        request: Request<api::ResumeRequest>,
    ) -> Result<Response<api::Run>, Status> {
        let run = run_id(&request.into_inner().run)?;
        self.change(run, Event::ResumeRequested { run }).await
    }

    async fn retry(
        &self,
        request: Request<api::RetryRequest>,
    ) -> Result<Response<api::Run>, Status> {
        let request = request.into_inner();
        let run = run_id(&request.run)?;
        let asked = request.scope();
        let names = request.tasks;
        let tasks = self
            .ask(run, move |run| {
                names
                    .into_iter()
                    .map(|name| run.dag.task_by_name(&name).ok_or(name))
                    .collect::<Result<Vec<_>, _>>()
            })
            .await?
            .map_err(|task| refuse::status(kahn_core::Refusal::UnknownTask { run, task }.into()))?;
        let scope = match (asked, tasks.is_empty()) {
            (api::retry_request::Scope::From, false) => RetryScope::From(tasks),
            (api::retry_request::Scope::Only, false) => RetryScope::Only(tasks),
            (api::retry_request::Scope::Failed, true) => RetryScope::Failed,
            (api::retry_request::Scope::Failed, false) => {
                return Err(Status::invalid_argument("tasks: none are named with scope failed"));
            }
            (api::retry_request::Scope::From | api::retry_request::Scope::Only, true) => {
                return Err(Status::invalid_argument("tasks: name at least one"));
            }
            (api::retry_request::Scope::Unspecified, _) => {
                return Err(Status::invalid_argument("scope: one of failed, from, only"));
            }
        };
        self.change(run, Event::RetryRequested { run, scope }).await
    }

    async fn watch(
        &self,
        request: Request<api::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.watch_run(request.into_inner()).await.map(Response::new)
    }

    async fn logs(
        &self,
        request: Request<api::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        self.read_logs(request.into_inner()).await.map(Response::new)
    }

    async fn explain(
        &self,
        request: Request<api::ExplainRequest>,
    ) -> Result<Response<api::ExplainResponse>, Status> {
        let api::ExplainRequest { run, task } = request.into_inner();
        let run = run_id(&run)?;
        let found = self
            .handle
            .query(move |core| {
                let known = core.state().run(run).ok_or(kahn_core::Refusal::UnknownRun(run))?;
                let ix = known.dag.task_by_name(&task);
                ix.and_then(|ix| core.explain(run, ix))
                    .ok_or(kahn_core::Refusal::UnknownTask { run, task })
            })
            .await
            .map_err(refuse::status)?;
        let explanation = found.map_err(|refusal| refuse::status(refusal.into()))?;
        Ok(Response::new(view::explanation(explanation)))
    }
}
