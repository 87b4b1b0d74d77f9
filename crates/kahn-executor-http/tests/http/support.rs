//! A server, and an executor that sends requests to it.

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
use kahn_executor::logs::LOG_BYTES_MAX;
use kahn_executor::testing::{self, Assignments, Ended, Running};
use kahn_executor_http::{HttpExecutor, HttpSettings};
use kahn_model::{
    Action, Body, CauseKind, Condition, HttpRequest, Polling, StatusRange, Text, Work,
};
use tokio::task::JoinSet;

/// A request that the server received.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) method: Method,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl ReceivedRequest {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A server on a free loopback port. Dropping it stops it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Server {
    /// A server that responds with the result of `answer` for each request and its number, from 1.
    pub(crate) async fn start<R: IntoResponse + 'static>(
        answer: impl Fn(ReceivedRequest, u32) -> R + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1", answer).await
    }

    /// The same on another loopback address.
    pub(crate) async fn start_at<R: IntoResponse + 'static>(
        host: &str,
        answer: impl Fn(ReceivedRequest, u32) -> R + Clone + Send + Sync + 'static,
    ) -> Self {
        let n_requests = Arc::new(AtomicU32::new(0));
        let answer = move |request: Request| {
            let (answer, n_requests) = (answer.clone(), Arc::clone(&n_requests));
            async move {
                let (head, body) = request.into_parts();
                let request = ReceivedRequest {
                    method: head.method,
                    uri: head.uri.to_string(),
                    headers: head.headers,
                    body: axum::body::to_bytes(body, usize::MAX).await.unwrap(),
                };
                answer(request, n_requests.fetch_add(1, Ordering::SeqCst) + 1).into_response()
            }
        };
        Self::route(host, Router::new().fallback(answer)).await
    }

    /// A server that never responds.
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

/// A port on which nothing listens.
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
    assignments: Assignments,
    executor: Arc<HttpExecutor>,
}

impl Worker {
    /// A worker whose tasks may reach the test servers.
    pub(crate) fn new() -> Self {
        Self::allowing(&["127.0.0.1"])
    }

    pub(crate) fn allowing(allow: &[&str]) -> Self {
        Self::with(allow, LOG_BYTES_MAX)
    }

    pub(crate) fn with(allow: &[&str], log_cap: u64) -> Self {
        let allow = allow.iter().map(|text| text.parse().unwrap()).collect();
        let dir = tempfile::tempdir().unwrap();
        let settings = HttpSettings { allow, ..HttpSettings::default() };
        Self {
            assignments: Assignments::with_log_cap(dir.path(), log_cap),
            executor: Arc::new(HttpExecutor::open(&settings).unwrap()),
            _dir: dir,
        }
    }

    pub(crate) fn start(&self, request: HttpRequest, run_timeout: Option<Duration>) -> Running {
        let mut assignment = self.assignments.next(Work::new(Action::Http(Box::new(request))));
        assignment.timeouts.run = run_timeout;
        testing::start(&self.executor, assignment)
    }

    pub(crate) async fn run(&self, request: HttpRequest) -> Ended {
        self.start(request, None).ended().await
    }

    /// Starts an attempt and cancels it as soon as the log contains `word`.
    pub(crate) async fn stop_when_printed(&self, request: HttpRequest, word: &str) -> Ended {
        self.start(request, None).stop_when_printed(word, CauseKind::Cancelled).await
    }
}
