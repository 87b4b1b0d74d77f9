//! The gRPC service for runs.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use kahn_model::{RunId, RunRef};
use kahn_proto::api::{self, runs_server::Runs, submit_request::Part};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{convert, limits, status};
use crate::service::{
    LogRequest, RetryRequest, RetryWhich, RunFilter, RunView, Service, ServiceError, Submit,
    TaskFilter, WatchRequest,
};

/// The gRPC service for runs.
#[derive(Clone, Debug)]
pub(crate) struct RunService(pub Service);

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Parses the run of a request.
fn run_ref(text: &str) -> Result<RunRef, Status> {
    text.parse().map_err(|error| status::from_error(ServiceError::invalid("run", error)))
}

/// Parses the start of a page; returns `None` for the first page.
fn page<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<Option<T>, Status> {
    match text {
        "" => Ok(None),
        text => match text.parse() {
            Ok(page) => Ok(Some(page)),
            Err(error) => Err(status::from_error(ServiceError::invalid("page", error))),
        },
    }
}

fn answer(run: Result<RunView, ServiceError>) -> Result<Response<api::Run>, Status> {
    run.map(|run| Response::new(convert::run(run))).map_err(status::from_error)
}

/// Converts a stream of results into a stream of messages.
fn stream<T: Send + 'static, M: 'static>(
    answers: mpsc::Receiver<Result<T, ServiceError>>,
    message: fn(T) -> M,
) -> Response<Out<M>> {
    let messages = ReceiverStream::new(answers)
        .map(move |answer| answer.map(message).map_err(status::from_error));
    Response::new(Box::pin(messages))
}

#[tonic::async_trait]
impl Runs for RunService {
    type WatchStream = Out<api::WatchResponse>;
    type LogsStream = Out<api::LogsResponse>;

    async fn submit(
        &self,
        request: Request<Streaming<api::SubmitRequest>>,
    ) -> Result<Response<api::SubmitResponse>, Status> {
        let mut inbound = request.into_inner();
        let Some(Part::Header(header)) = limits::next(&mut inbound).await?.and_then(|m| m.part)
        else {
            return Err(Status::invalid_argument("the first message must be the header"));
        };
        let mut document = self.0.upload();
        while let Some(message) = limits::next(&mut inbound).await? {
            let Some(Part::Document(piece)) = message.part else {
                return Err(Status::invalid_argument("the header comes first and once"));
            };
            document.push(&piece).map_err(status::from_error)?;
        }
        let request = Submit {
            namespace: header.namespace,
            idempotency_key: header.idempotency_key,
            params: header.params.into_iter().collect(),
            labels: header.labels.into_iter().collect(),
            file_name: header.file_name,
        };
        let submitted = self.0.submit(request, document).await.map_err(status::from_error)?;
        Ok(Response::new(api::SubmitResponse {
            run: submitted.run.to_string(),
            is_repeated: submitted.is_repeated,
            warnings: submitted.warnings.into_iter().map(status::cut).collect(),
        }))
    }

    async fn get(&self, request: Request<api::GetRequest>) -> Result<Response<api::Run>, Status> {
        answer(self.0.get(run_ref(&request.into_inner().run)?).await)
    }

    async fn list(
        &self,
        request: Request<api::ListRequest>,
    ) -> Result<Response<api::ListResponse>, Status> {
        let request = request.into_inner();
        let before = page::<RunId>(&request.page)?;
        let filter = RunFilter {
            states: convert::run_states(request.states())?,
            namespace: request.namespace,
            dag: request.dag,
            labels: request.labels.into_iter().collect(),
        };
        let listed = self.0.list_runs(filter, before, request.page_size).await;
        let listed = listed.map_err(status::from_error)?;
        Ok(Response::new(api::ListResponse {
            runs: listed.runs.into_iter().map(convert::run).collect(),
            next_page: listed.next.map(|next| next.to_string()).unwrap_or_default(),
        }))
    }

    async fn list_tasks(
        &self,
        request: Request<api::ListTasksRequest>,
    ) -> Result<Response<api::ListTasksResponse>, Status> {
        let request = request.into_inner();
        let run = run_ref(&request.run)?;
        let start = page(&request.page)?.unwrap_or(0);
        let states = convert::task_states(request.states())?;
        let filter = TaskFilter { states, names: request.names };
        let listed = self.0.list_tasks(run, filter, start, request.page_size).await;
        let listed = listed.map_err(status::from_error)?;
        Ok(Response::new(api::ListTasksResponse {
            tasks: listed.tasks.into_iter().map(convert::task).collect(),
            next_page: listed.next.map(|next| next.to_string()).unwrap_or_default(),
        }))
    }

    async fn cancel(
        &self,
        request: Request<api::CancelRequest>,
    ) -> Result<Response<api::Run>, Status> {
        let api::CancelRequest { run, reason } = request.into_inner();
        answer(self.0.cancel(run_ref(&run)?, &reason).await)
    }

    async fn pause(
        &self,
        request: Request<api::PauseRequest>,
    ) -> Result<Response<api::Run>, Status> {
        answer(self.0.pause(run_ref(&request.into_inner().run)?).await)
    }

    async fn resume(
        &self,
        request: Request<api::ResumeRequest>,
    ) -> Result<Response<api::Run>, Status> {
        answer(self.0.resume(run_ref(&request.into_inner().run)?).await)
    }

    async fn retry(
        &self,
        request: Request<api::RetryRequest>,
    ) -> Result<Response<api::Run>, Status> {
        let request = request.into_inner();
        let which = match request.scope() {
            api::retry_request::Scope::Failed => RetryWhich::Failed,
            api::retry_request::Scope::From => RetryWhich::From,
            api::retry_request::Scope::Only => RetryWhich::Only,
            api::retry_request::Scope::Unspecified => {
                return Err(Status::invalid_argument("scope: one of failed, from, only"));
            }
        };
        let run = run_ref(&request.run)?;
        answer(self.0.retry(RetryRequest { run, which, tasks: request.tasks }).await)
    }

    async fn watch(
        &self,
        request: Request<api::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let request = WatchRequest {
            run: run_ref(&request.run)?,
            after: request.after,
            is_snapshot: request.is_snapshot,
            is_summary: request.is_summary,
        };
        let updates = self.0.watch(request).await.map_err(status::from_error)?;
        Ok(stream(updates, convert::update))
    }

    async fn logs(
        &self,
        request: Request<api::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let request = LogRequest {
            run: run_ref(&request.run)?,
            task: request.task,
            attempt: request.attempt,
            offset: request.offset,
            is_following: request.is_following,
            tail_bytes: request.tail_bytes,
            is_through: request.is_through,
        };
        let parts = self.0.read_logs(request).await.map_err(status::from_error)?;
        Ok(stream(parts, convert::log_part))
    }

    async fn explain(
        &self,
        request: Request<api::ExplainRequest>,
    ) -> Result<Response<api::ExplainResponse>, Status> {
        let api::ExplainRequest { run, task } = request.into_inner();
        let explained = self.0.explain(run_ref(&run)?, task).await;
        explained
            .map(|explanation| Response::new(convert::explanation(explanation)))
            .map_err(status::from_error)
    }
}
