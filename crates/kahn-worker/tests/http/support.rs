//! A server, and a worker's executor that asks it.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use kahn_model::{
    Action, AttemptId, Body, CauseKind, Condition, Failure, HttpRequest, Polling, RunId,
    StatusRange, TaskIx, Text, Timeouts, Work,
};
use kahn_worker::executor::{
    Assignment, Executor as _, HttpExecutor, HttpSettings, Report, Stopper, attempt_environment,
    control,
};
use kahn_worker::logs::{LOG_BYTES_MAX, LogDir, LogReader};
use kahn_worker::secrets::GivenSecrets;
use tokio::task::{JoinHandle, JoinSet};

/// What the server was sent.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) method: Method,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A server on a free port of loopback. It ends with the value.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Server {
    /// A server that answers with what `answer` makes of a request and its number, from 1.
    pub(crate) async fn start<R: IntoResponse + 'static>(
        answer: impl Fn(Got, u32) -> R + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1", answer).await
    }

    /// The same, at another address of loopback.
    pub(crate) async fn start_at<R: IntoResponse + 'static>(
        host: &str,
        answer: impl Fn(Got, u32) -> R + Clone + Send + Sync + 'static,
    ) -> Self {
        let n_requests = Arc::new(AtomicU32::new(0));
        let answer = move |request: Request| {
            let (answer, n_requests) = (answer.clone(), Arc::clone(&n_requests));
            async move {
                let (head, body) = request.into_parts();
                let got = Got {
                    method: head.method,
                    uri: head.uri.to_string(),
                    headers: head.headers,
                    body: axum::body::to_bytes(body, usize::MAX).await.unwrap(),
                };
                answer(got, n_requests.fetch_add(1, Ordering::SeqCst) + 1).into_response()
            }
        };
        Self::route(host, Router::new().fallback(answer)).await
    }

    /// A server that answers nothing, ever.
    pub(crate) async fn silent() -> Self {
        Self::route("127.0.0.1", Router::new().fallback(std::future::pending::<Response>)).await
    }

    async fn route(host: &str, router: Router) -> Self {
        let listener = tokio::net::TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, _serving: serving }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// A port where nobody listens.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn json(body: impl Into<String>) -> impl IntoResponse {
    ([("content-type", "application/json")], body.into())
}

pub(crate) fn redirect(status: StatusCode, to: impl Into<String>) -> Response {
    (status, [("location", to.into())]).into_response()
}

pub(crate) fn get(url: impl Into<String>) -> HttpRequest {
    HttpRequest {
        method: "GET".into(),
        url: Text::new(url.into()),
        headers: Vec::new(),
        body: Body::Empty,
        expect: vec![StatusRange::SUCCESS],
        timeout: Duration::from_secs(20),
        polling: None,
    }
}

pub(crate) fn post(url: impl Into<String>, body: Body) -> HttpRequest {
    HttpRequest { method: "POST".into(), body, ..get(url) }
}

pub(crate) fn with_headers(request: HttpRequest, headers: &[(&str, &str)]) -> HttpRequest {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), Text::new(*value)));
    HttpRequest { headers: headers.collect(), ..request }
}

pub(crate) fn until(request: HttpRequest, condition: &str) -> HttpRequest {
    let polling = Polling { until: Condition(condition.into()), every: Duration::from_millis(20) };
    HttpRequest { polling: Some(polling), ..request }
}

pub(crate) struct Worker {
    _dir: tempfile::TempDir,
    logs: LogDir,
    executor: Arc<HttpExecutor>,
    n_attempts: AtomicU32,
}

pub(crate) struct Running {
    pub(crate) stopper: Stopper,
    carrying_out: JoinHandle<Report>,
    log: LogReader,
}

pub(crate) struct Ended {
    pub(crate) report: Report,
    pub(crate) log: String,
}

impl Worker {
    /// A worker whose tasks may reach the servers of these tests.
    pub(crate) fn new() -> Self {
        Self::allowing(&["127.0.0.1"])
    }

    pub(crate) fn allowing(allow: &[&str]) -> Self {
        Self::with(allow, LOG_BYTES_MAX)
    }

    pub(crate) fn with(allow: &[&str], log_cap: u64) -> Self {
        let allow = allow.iter().map(|text| text.parse().unwrap()).collect();
        let dir = tempfile::tempdir().unwrap();
        Self {
            logs: LogDir::open(dir.path(), log_cap).unwrap(),
            executor: Arc::new(
                HttpExecutor::open(&HttpSettings { allow, ..HttpSettings::default() }).unwrap(),
            ),
            n_attempts: AtomicU32::new(0),
            _dir: dir,
        }
    }

    pub(crate) fn start(&self, request: HttpRequest, run_timeout: Option<Duration>) -> Running {
        let attempt = AttemptId {
            run: RunId::from_slice(&[1; 16]).unwrap(),
            task: TaskIx(7),
            number: 1 + self.n_attempts.fetch_add(1, Ordering::Relaxed),
        };
        let assignment = Assignment {
            attempt,
            task_name: "task".to_owned(),
            work: Work::new(Action::Http(Box::new(request))).into(),
            env: attempt_environment(attempt, "task", None),
            secrets: GivenSecrets::none(),
            resources: Arc::default(),
            timeouts: Timeouts { run: run_timeout, ..Timeouts::default() },
            logs: self.logs.writer(attempt).into(),
        };
        let log = assignment.logs.reader(0);
        let (stopper, control) = control(|| ());
        let executor = Arc::clone(&self.executor);
        let carrying_out = tokio::spawn(async move { executor.run(assignment, control).await });
        Running { stopper, carrying_out, log }
    }

    pub(crate) async fn run(&self, request: HttpRequest) -> Ended {
        self.start(request, None).ended().await
    }

    /// Starts, and asks to stop as soon as the log holds `word`.
    pub(crate) async fn stop_when_printed(&self, request: HttpRequest, word: &str) -> Ended {
        let mut running = self.start(request, None);
        let text = running.printed(word).await;
        running.stopper.stop(CauseKind::Cancelled);
        let Ended { report, log } = running.ended().await;
        Ended { report, log: text + &log }
    }
}

impl Running {
    /// Waits until the log holds `word`, and gives what it holds.
    pub(crate) async fn printed(&mut self, word: &str) -> String {
        let mut text = String::new();
        while !text.contains(word) {
            let chunk = self.log.next().await.unwrap();
            let chunk = chunk.unwrap_or_else(|| panic!("the log ends without `{word}`: {text}"));
            text += std::str::from_utf8(&chunk.bytes).unwrap();
        }
        text
    }

    /// The report, and what of the log was not read yet.
    pub(crate) async fn ended(mut self) -> Ended {
        let report = self.carrying_out.await.unwrap();
        let mut log = Vec::new();
        while let Some(chunk) = self.log.next().await.unwrap() {
            log.extend_from_slice(&chunk.bytes);
        }
        Ended { report, log: String::from_utf8(log).unwrap() }
    }
}

impl Ended {
    pub(crate) fn failure(&self) -> Failure {
        self.report.outcome.clone().expect_err("the attempt fails")
    }

    /// An output, as its JSON text.
    pub(crate) fn output(&self, name: &str) -> Option<&str> {
        let outputs = self.report.outcome.as_ref().expect("the attempt succeeds");
        outputs.0.get(name).map(|value| value.as_json())
    }
}
