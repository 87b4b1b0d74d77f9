//! The client and its unary calls.

use std::future::Future;
use std::time::Duration;

use kahn_model::{RunId, RunRef, RunState, TaskState};
use kahn_net::ClientTls;
use kahn_proto::api;
use kahn_proto::api::backups_client::BackupsClient;
use kahn_proto::api::runs_client::RunsClient;
use kahn_proto::api::workers_client::WorkersClient;
use kahn_proto::convert::state;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::connection::{Bearer, Line, MESSAGE_BYTES_IN_MAX, MESSAGE_BYTES_OUT_MAX, Options};
use crate::convert;
use crate::error::Error;
use crate::export::Export;
use crate::logs::{LogQuery, Logs};
use crate::retry::OutageRetry;
use crate::types::{Explanation, Page, Pool, RetryScope, Run, RunFilter, Task, TaskFilter, Worker};
use crate::watch::Watch;

pub(crate) type Transport = InterceptedService<Channel, Bearer>;

/// A connection to a coordinator. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    line: Line,
    bearer: Bearer,
    options: Options,
}

impl Client {
    /// Connects to the coordinator at `url`, such as `http://127.0.0.1:7400`, or to one of several,
    /// separated by commas. Tries each only once.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unreachable`] if nothing answers there, and [`Error::Refused`] if a URL or
    /// the token is not valid.
    pub async fn connect(url: &str, token: Option<&str>) -> Result<Self, Error> {
        Self::connect_with_tls(url, token, ClientTls::default()).await
    }

    /// Connects like [`Client::connect`], with these files for URLs that begin with `https://`.
    ///
    /// # Errors
    ///
    /// Returns an error like [`Client::connect`], and [`Error::Refused`] if a file cannot be used, the
    /// certificate of the coordinator cannot be trusted, or the coordinator refuses that of this
    /// client.
    pub async fn connect_with_tls(
        url: &str,
        token: Option<&str>,
        tls: ClientTls,
    ) -> Result<Self, Error> {
        let bearer = Bearer::new(token)?;
        let line = Line::open(url, tls).await?;
        Ok(Self { line, bearer, options: Options::default() })
    }

    /// Creates a client over an existing channel, such as one within the process.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Refused`] if the token is not valid.
    pub fn new(channel: Channel, token: Option<&str>) -> Result<Self, Error> {
        let line = Line::over(channel);
        Ok(Self { line, bearer: Bearer::new(token)?, options: Options::default() })
    }

    /// Returns the client with other timeouts.
    #[must_use]
    pub fn with_options(self, options: Options) -> Self {
        Self { options, ..self }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn runs(&self) -> RunsClient<Transport> {
        RunsClient::with_interceptor(self.line.channel(), self.bearer.clone())
            .max_decoding_message_size(MESSAGE_BYTES_IN_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_OUT_MAX)
    }

    fn workers(&self) -> WorkersClient<Transport> {
        WorkersClient::with_interceptor(self.line.channel(), self.bearer.clone())
            .max_decoding_message_size(MESSAGE_BYTES_IN_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_OUT_MAX)
    }

    pub(crate) fn backups(&self) -> BackupsClient<Transport> {
        BackupsClient::with_interceptor(self.line.channel(), self.bearer.clone())
            .max_decoding_message_size(MESSAGE_BYTES_IN_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_OUT_MAX)
    }

    /// Returns one run.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn get(&self, run: impl Into<RunRef>) -> Result<Run, Error> {
        let request = api::GetRequest { run: run.into().to_string() };
        let ask = || async { self.runs().get(request.clone()).await };
        convert::run(self.repeatedly("get", ask).await?)
    }

    /// Lists runs, newest first, in pages. `page` is the [`Page::next`] of the previous page. With
    /// a `page_size` of zero the coordinator chooses the size.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn list(
        &self,
        filter: &RunFilter,
        page_size: u32,
        page: Option<&str>,
    ) -> Result<Page<Run>, Error> {
        let number = |state: &RunState| i32::from(state::run_state_number(*state));
        let request = api::ListRequest {
            namespace: filter.namespace.clone().unwrap_or_default(),
            states: filter.states.iter().map(number).collect(),
            labels: filter.labels.clone().into_iter().collect(),
            page_size,
            page: page.unwrap_or_default().to_owned(),
            dag: filter.dag.clone().unwrap_or_default(),
        };
        let ask = || async { self.runs().list(request.clone()).await };
        let answer = self.repeatedly("list", ask).await?;
        let items = answer.runs.into_iter().map(convert::run).collect::<Result<_, _>>()?;
        Ok(Page { items, next: next_page(answer.next_page) })
    }

    /// Lists the tasks of a run, in the order of the file, in pages like those of [`Client::list`].
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn list_tasks(
        &self,
        run: RunId,
        filter: &TaskFilter,
        page_size: u32,
        page: Option<&str>,
    ) -> Result<Page<Task>, Error> {
        let number = |state: &TaskState| i32::from(state::task_state_number(*state));
        let request = api::ListTasksRequest {
            run: run.to_string(),
            states: filter.states.iter().map(number).collect(),
            names: filter.names.clone(),
            page_size,
            page: page.unwrap_or_default().to_owned(),
        };
        let ask = || async { self.runs().list_tasks(request.clone()).await };
        let answer = self.repeatedly("list tasks", ask).await?;
        let items = answer.tasks.into_iter().map(convert::task).collect::<Result<_, _>>()?;
        Ok(Page { items, next: next_page(answer.next_page) })
    }

    /// Cancels a run. `reason` is stored with the run.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn cancel(&self, run: impl Into<RunRef>, reason: &str) -> Result<Run, Error> {
        let run = run.into();
        let request = api::CancelRequest { run: run.to_string(), reason: reason.to_owned() };
        let ask = || async { self.runs().cancel(request.clone()).await };
        convert::run(self.repeatedly("cancel", ask).await?)
    }

    /// Pauses a run: no new attempts start.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn pause(&self, run: impl Into<RunRef>) -> Result<Run, Error> {
        let request = api::PauseRequest { run: run.into().to_string() };
        let ask = || async { self.runs().pause(request.clone()).await };
        convert::run(self.repeatedly("pause", ask).await?)
    }

    /// Resumes a paused run.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn resume(&self, run: impl Into<RunRef>) -> Result<Run, Error> {
        let request = api::ResumeRequest { run: run.into().to_string() };
        let ask = || async { self.runs().resume(request.clone()).await };
        convert::run(self.repeatedly("resume", ask).await?)
    }

    /// Reruns tasks of a finished run. The call is never repeated, because it might then rerun them
    /// twice.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn retry(&self, run: impl Into<RunRef>, scope: &RetryScope) -> Result<Run, Error> {
        let run = run.into();
        let (scope, tasks) = match scope {
            RetryScope::Failed => (api::retry_request::Scope::Failed, Vec::new()),
            RetryScope::From(tasks) => (api::retry_request::Scope::From, tasks.clone()),
            RetryScope::Only(tasks) => (api::retry_request::Scope::Only, tasks.clone()),
        };
        let request = api::RetryRequest { run: run.to_string(), scope: scope.into(), tasks };
        let mut runs = self.runs();
        let asked = runs.retry(request);
        convert::run(within("retry", self.options.call_timeout, asked).await?.into_inner())
    }

    /// Explains why a task is in its current state.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn explain(&self, run: RunId, task: &str) -> Result<Explanation, Error> {
        let request = api::ExplainRequest { run: run.to_string(), task: task.to_owned() };
        let ask = || async { self.runs().explain(request.clone()).await };
        convert::explanation(self.repeatedly("explain", ask).await?)
    }

    /// Watches the events of a run after event number `after`, until the run ends.
    #[must_use]
    pub fn watch(&self, run: RunId, after: u64) -> Watch {
        Watch::events(self.clone(), run, after, false)
    }

    /// Reads the events of a run after event number `after`, up to now.
    #[must_use]
    pub fn history(&self, run: RunId, after: u64) -> Watch {
        Watch::events(self.clone(), run, after, true)
    }

    /// Watches the state of a run, without events, a few times per second until it ends.
    #[must_use]
    pub fn watch_summary(&self, run: RunId) -> Watch {
        Watch::summary(self.clone(), run)
    }

    /// Reads the output of an attempt of a task.
    #[must_use]
    pub fn logs(&self, query: LogQuery) -> Logs {
        Logs::new(self.clone(), query)
    }

    /// Reads the state of a partition.
    #[must_use]
    pub fn export(&self, partition: u16) -> Export {
        Export::new(self.clone(), partition)
    }

    /// Lists the workers that the coordinator has seen, but those that were lost more than an hour ago.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn list_workers(&self) -> Result<Vec<Worker>, Error> {
        let ask = || async { self.workers().list(api::ListWorkersRequest {}).await };
        let answer = self.repeatedly("list workers", ask).await?;
        Ok(answer.workers.into_iter().map(convert::worker).collect())
    }

    /// Lists the pools of workers that are configured, with the number of workers that each has and
    /// needs.
    ///
    /// # Errors
    ///
    /// See [`Error`]. [`Error::Unreachable`] also while that is not known, shortly after a change of
    /// the leader.
    pub async fn list_pools(&self) -> Result<Vec<Pool>, Error> {
        let ask = || async { self.workers().list_pools(api::ListPoolsRequest {}).await };
        let answer = self.repeatedly("list pools", ask).await?;
        Ok(answer.pools.into_iter().map(convert::pool).collect())
    }

    /// Cordons a worker, so that it gets no new leases.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn cordon(&self, worker: &str) -> Result<Worker, Error> {
        self.set_cordon(worker, false).await
    }

    /// Uncordons a worker, so that it gets leases again.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn uncordon(&self, worker: &str) -> Result<Worker, Error> {
        self.set_cordon(worker, true).await
    }

    async fn set_cordon(&self, worker: &str, is_lifted: bool) -> Result<Worker, Error> {
        let request = api::CordonRequest { worker: worker.to_owned(), is_lifted };
        let ask = || async { self.workers().cordon(request.clone()).await };
        self.repeatedly("cordon", ask).await.map(convert::worker)
    }

    /// Drains a worker: it finishes its attempts and exits.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn drain(&self, worker: &str) -> Result<Worker, Error> {
        let request = api::DrainRequest { worker: worker.to_owned() };
        let ask = || async { self.workers().drain(request.clone()).await };
        self.repeatedly("drain", ask).await.map(convert::worker)
    }

    /// Calls `ask`, and retries while the coordinator is unreachable, up to
    /// [`Options::outage_timeout`].
    async fn repeatedly<T, F>(&self, what: &str, ask: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut retry = OutageRetry::new(self.options.outage_timeout);
        loop {
            match within(what, self.options.call_timeout, ask()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(error) => self.retry_elsewhere(&mut retry, error).await?,
            }
        }
    }

    /// Waits before the next try, which goes to another coordinator if there are several. Returns
    /// `error` instead if retrying cannot help or the outage has lasted too long.
    pub(crate) async fn retry_elsewhere(
        &self,
        retry: &mut OutageRetry,
        error: Error,
    ) -> Result<(), Error> {
        if error.is_unreachable() {
            self.line.leave();
        }
        retry.pause(error).await
    }
}

/// Applies a timeout to a call.
pub(crate) async fn within<T>(
    what: &str,
    deadline: Duration,
    asked: impl Future<Output = Result<T, Status>>,
) -> Result<T, Error> {
    match tokio::time::timeout(deadline, asked).await {
        Ok(answer) => answer.map_err(|status| Error::from_status(&status)),
        Err(_) => Err(Error::late(what, deadline)),
    }
}

fn next_page(page: String) -> Option<String> {
    Some(page).filter(|page| !page.is_empty())
}
