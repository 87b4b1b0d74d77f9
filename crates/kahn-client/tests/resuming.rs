//! The client against a faulty coordinator: streams end early and calls fail, but nothing may be
//! lost or delivered twice.

#![expect(clippy::unwrap_used, reason = "a test server that fails must be seen to fail")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use kahn_client::{Client, Error, LogQuery, Reason, Submission};
use kahn_model::{RunId, RunState, Uuid};
use kahn_proto::api;
use kahn_proto::api::runs_server::{Runs, RunsServer};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Iter, iter};
use tonic::{Request, Response, Status, Streaming};

const RUN: u128 = 7;
const EVENTS: u64 = 10;

type Answers<T> = Iter<std::vec::IntoIter<Result<T, Status>>>;

/// Sends at most three items per stream, and then breaks it in a different way each time.
#[derive(Default)]
struct UnreliableServer {
    n_calls: AtomicU32,
    keys: Mutex<Vec<String>>,
    /// Whether event 5 is never sent.
    has_gap: bool,
}

fn run() -> RunId {
    RunId::new(Uuid::from_u128(RUN))
}

fn finished_run() -> api::Run {
    api::Run {
        run: run().to_string(),
        state: api::RunState::Succeeded.into(),
        tasks: [(6, 2)].into(),
        events: EVENTS,
        finished_at: 1,
        ..api::Run::default()
    }
}

fn event(seq: u64) -> api::Event {
    api::Event { seq, r#type: "task_ready".into(), ..api::Event::default() }
}

impl UnreliableServer {
    fn calls(&self) -> u32 {
        self.n_calls.fetch_add(1, Ordering::SeqCst)
    }
}

#[tonic::async_trait]
impl Runs for UnreliableServer {
    type WatchStream = Answers<api::WatchResponse>;
    type LogsStream = Answers<api::LogsResponse>;

    async fn submit(
        &self,
        request: Request<Streaming<api::SubmitRequest>>,
    ) -> Result<Response<api::SubmitResponse>, Status> {
        let mut pieces = request.into_inner();
        let mut size = 0;
        while let Some(message) = pieces.message().await? {
            match message.part {
                Some(api::submit_request::Part::Header(header)) => {
                    self.keys.lock().unwrap().push(header.idempotency_key);
                }
                Some(api::submit_request::Part::Document(piece)) => size += piece.len(),
                None => return Err(Status::invalid_argument("an empty message")),
            }
        }
        if self.calls() < 2 {
            return Err(Status::unavailable("the answer got lost"));
        }
        let warnings = vec![size.to_string()];
        let run = run().to_string();
        Ok(Response::new(api::SubmitResponse { run, is_repeated: true, warnings }))
    }

    async fn get(&self, request: Request<api::GetRequest>) -> Result<Response<api::Run>, Status> {
        if request.metadata().get("authorization").is_none() {
            return Err(Status::unauthenticated("no token"));
        }
        match self.calls() {
            0 => Err(Status::unavailable("not yet")),
            _ => Ok(Response::new(finished_run())),
        }
    }

    async fn watch(
        &self,
        request: Request<api::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let call = self.calls();
        // Starts one event too early, so that it is sent twice.
        let from = request.into_inner().after.max(1);
        let mut answers = Vec::new();
        for seq in (from..=EVENTS).take(3).filter(|seq| !self.has_gap || *seq != 5) {
            let run = (seq == EVENTS).then(finished_run);
            answers.push(Ok(api::WatchResponse { events: vec![event(seq)], run }));
        }
        if call.is_multiple_of(2) {
            answers.push(Err(Status::unavailable("going away")));
        }
        Ok(Response::new(iter(answers)))
    }

    async fn logs(
        &self,
        request: Request<api::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let text = b"0123456789";
        let request = request.into_inner();
        let call = self.calls();
        assert!(call == 0 || request.attempt == 2, "the attempt must not change");
        // Starts one byte too early and breaks the stream after four: either with a status, or like
        // a coordinator that is shutting down.
        let start = usize::try_from(request.offset).unwrap().saturating_sub(1);
        let end = (start + 4).min(text.len());
        let piece = api::LogsResponse {
            attempt: 2,
            offset: u64::try_from(start).unwrap(),
            data: text[start..end].to_vec().into(),
            is_sealed: end == text.len(),
            ..api::LogsResponse::default()
        };
        let mut answers = vec![Ok(piece)];
        if call.is_multiple_of(2) {
            answers.push(Err(Status::unavailable("going away")));
        } else if end == text.len() && request.is_through {
            answers.push(Ok(api::LogsResponse { is_end: true, ..api::LogsResponse::default() }));
        }
        Ok(Response::new(iter(answers)))
    }

    async fn list(
        &self,
        _: Request<api::ListRequest>,
    ) -> Result<Response<api::ListResponse>, Status> {
        Err(Status::internal("out of order"))
    }

    async fn list_tasks(
        &self,
        _: Request<api::ListTasksRequest>,
    ) -> Result<Response<api::ListTasksResponse>, Status> {
        Err(Status::not_found("no such run"))
    }

    async fn cancel(&self, _: Request<api::CancelRequest>) -> Result<Response<api::Run>, Status> {
        Err(Status::failed_precondition("run has ended"))
    }

    async fn pause(&self, _: Request<api::PauseRequest>) -> Result<Response<api::Run>, Status> {
        Err(Status::failed_precondition("run has ended"))
    }

    async fn resume(&self, _: Request<api::ResumeRequest>) -> Result<Response<api::Run>, Status> {
        Err(Status::failed_precondition("run has ended"))
    }

    async fn retry(&self, _: Request<api::RetryRequest>) -> Result<Response<api::Run>, Status> {
        self.calls();
        Err(Status::unavailable("the answer got lost"))
    }

    async fn explain(
        &self,
        _: Request<api::ExplainRequest>,
    ) -> Result<Response<api::ExplainResponse>, Status> {
        Err(Status::unimplemented("explain"))
    }
}

async fn serve(server: UnreliableServer) -> (Client, Arc<UnreliableServer>) {
    let server = Arc::new(server);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let service = RunsServer::from_arc(Arc::clone(&server));
    let transport = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(transport.serve_with_incoming(TcpListenerStream::new(listener)));
    (Client::connect(&format!("http://{address}"), Some("secret")).await.unwrap(), server)
}

#[tokio::test]
async fn watching_over_broken_streams_gives_each_event_once_and_in_order() {
    let (client, server) = serve(UnreliableServer::default()).await;
    let mut watch = client.watch(run(), 0);
    let (mut seen, mut last_run) = (Vec::new(), None);
    while let Some(update) = watch.next().await.unwrap() {
        seen.extend(update.events.iter().map(|event| event.seq));
        last_run = update.run.or(last_run);
    }
    assert_eq!(seen, (1..=EVENTS).collect::<Vec<_>>());
    assert_eq!(last_run.unwrap().state, RunState::Succeeded);
    assert!(server.calls() > 4, "the stream was never broken");
}

#[tokio::test]
async fn an_event_that_is_never_sent_is_a_bug_and_not_passed_over() {
    let (client, _) =
        serve(UnreliableServer { has_gap: true, ..UnreliableServer::default() }).await;
    let mut watch = client.watch(run(), 0);
    let error = loop {
        match watch.next().await {
            Ok(update) => assert!(update.is_some(), "the gap was passed over"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Bug { .. }), "{error}");
    assert_eq!(watch.last_seen(), 4);
}

#[tokio::test]
async fn logs_over_broken_streams_give_each_byte_once() {
    for is_through in [false, true] {
        let (client, _) = serve(UnreliableServer::default()).await;
        let query = LogQuery { is_following: true, is_through, ..LogQuery::new(run(), "a") };
        let mut logs = client.logs(query);
        let (mut text, mut n_ends) = (Vec::new(), 0);
        while let Some(piece) = logs.next().await.unwrap() {
            assert_eq!(usize::try_from(piece.offset).unwrap(), text.len());
            text.extend(piece.data);
            n_ends += usize::from(piece.is_sealed);
        }
        assert_eq!((text.as_slice(), n_ends), (&b"0123456789"[..], 1));
    }
}

#[tokio::test]
async fn submitting_again_after_a_lost_answer_shows_the_same_key() {
    let (client, server) = serve(UnreliableServer::default()).await;
    let document = vec![b' '; 2_500_000];
    let submitted = client.submit(&Submission::new(&document)).await.unwrap();
    assert_eq!((submitted.run, submitted.is_repeated), (run(), false));
    assert_eq!(submitted.warnings, ["2500000"]);
    let keys = server.keys.lock().unwrap().clone();
    assert_eq!(keys.len(), 3);
    assert!(!keys[0].is_empty() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn calls_are_repeated_only_where_that_is_safe_and_helps() {
    let (client, server) = serve(UnreliableServer::default()).await;
    assert_eq!(client.get(run()).await.unwrap().n_ended(), 2);
    let before = server.calls();
    assert!(client.retry(run(), &Default::default()).await.unwrap_err().is_unreachable());
    assert_eq!(server.calls(), before + 2, "retry was asked more than once");
    let refused = client.cancel(run(), "").await.unwrap_err();
    assert_eq!(refused.refusal().unwrap().reason, Reason::Conflict);
    let bug = client.list(&Default::default(), 0, None).await.unwrap_err();
    assert!(matches!(bug, Error::Bug { .. }), "{bug}");
}
