//! A coordinator on a free port, and raw calls to it.

use std::net::{Ipv4Addr, SocketAddr};

use kahn_coordinator::{Config, Coordinator, Limits, Listener, Services, StoreConfig};
use kahn_proto::api::runs_client::RunsClient;
use kahn_proto::api::{self, submit_request::Part};
use kahn_proto::storage::Resources;
use kahn_proto::worker::sessions_client::SessionsClient;
use kahn_proto::worker::{Finished, Hello, LeaseId, LogPiece, LogReceipt, Report, Reports};
use kahn_proto::worker::{WorkerMessage, coordinator_message, report, worker_message};
use kahn_runtime::health::Readiness;
use kahn_runtime::metrics::Metrics;
use kahn_runtime::secret::Secret;
use kahn_runtime::telemetry::Traces;
use tokio_stream::StreamExt as _;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// Maximum size of a DAG file on this server.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 8 << 20;
/// Maximum number of concurrent streams on one connection of this server.
pub(crate) const STREAMS_MAX: usize = 16;

/// A lease of a worker that stays attached until this is dropped.
pub(crate) struct Holding {
    pub run: String,
    pub lease: LeaseId,
    say: tokio::sync::mpsc::Sender<WorkerMessage>,
}

/// A coordinator on a free port.
pub(crate) struct Server {
    coordinator: Coordinator,
    _dir: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// Starts a coordinator whose configuration differs from the usual one.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config {
            data_dir: dir.path().to_owned(),
            store: StoreConfig { url: Some(Secret::new("memory")), ..StoreConfig::default() },
            limits: Limits {
                document_bytes: DOCUMENT_BYTES_MAX,
                streams_per_connection: u32::try_from(STREAMS_MAX).unwrap(),
                ..Limits::default()
            },
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            ..Config::default()
        };
        change(&mut config);
        let services = Services {
            metrics: Metrics::new(),
            readiness: Readiness::new(),
            traces: Traces::off(),
        };
        let listener = Listener::bind(&config).await.unwrap();
        let coordinator = Coordinator::start(config, listener, services).await.unwrap();
        Self { coordinator, _dir: dir }
    }

    /// Opens a new connection.
    pub(crate) async fn channel(&self) -> Channel {
        let url = format!("http://{}", self.coordinator.address().unwrap());
        Endpoint::from_shared(url).unwrap().connect().await.unwrap()
    }

    pub(crate) fn as_client<T>(&self, message: T) -> Request<T> {
        with_token(message, self.coordinator.client_token().to_header())
    }

    pub(crate) fn as_worker<T>(&self, message: T) -> Request<T> {
        with_token(message, self.coordinator.worker_token().to_header())
    }

    /// Submits a DAG file in these parts.
    pub(crate) async fn submit(
        &self,
        parts: Vec<api::SubmitRequest>,
    ) -> Result<api::SubmitResponse, Status> {
        let mut client = RunsClient::new(self.channel().await);
        let answer = client.submit(self.as_client(tokio_stream::iter(parts))).await?;
        Ok(answer.into_inner())
    }

    /// Sends these messages as a worker, and returns the status with which the stream ends.
    pub(crate) async fn attach(&self, messages: Vec<WorkerMessage>) -> Status {
        let mut client = SessionsClient::new(self.channel().await);
        let said = tokio_stream::iter(messages).chain(tokio_stream::pending());
        let mut heard = client.attach(self.as_worker(said)).await.unwrap().into_inner();
        loop {
            match heard.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("the stream has ended"),
                Err(status) => return status,
            }
        }
    }

    /// Attaches as a worker, submits a run of one task `a` and takes its lease.
    pub(crate) async fn lease_of_one_attempt(&self) -> Holding {
        let mut client = SessionsClient::new(self.channel().await);
        let hello = Hello {
            protocol: 1,
            worker: "w1".into(),
            boot: 1,
            capacity: Some(Resources {
                cpu_milli: 1000,
                memory_bytes: 1 << 30,
                ..Resources::default()
            }),
            executors: vec!["process".into()],
            leases_max: 1,
            ..Hello::default()
        };
        let hello = WorkerMessage { message: Some(worker_message::Message::Hello(hello)) };
        let (say, said) = tokio::sync::mpsc::channel(4);
        say.send(hello).await.unwrap();
        let said = tokio_stream::wrappers::ReceiverStream::new(said);
        let mut heard = client.attach(self.as_worker(said)).await.unwrap().into_inner();
        let source = "tasks: {a: {run: 'true'}}";
        let run = self.submit(vec![header(), piece(source.into())]).await.unwrap().run;
        loop {
            let message = heard.message().await.unwrap().unwrap();
            if let Some(coordinator_message::Message::Instructions(mut all)) = message.message
                && let Some(lease) = all.leases.pop()
            {
                tokio::spawn(async move { while let Ok(Some(_)) = heard.message().await {} });
                return Holding { run, lease: lease.id.unwrap(), say };
            }
        }
    }

    /// Sends output, and returns the receipts.
    pub(crate) async fn ship(&self, pieces: Vec<LogPiece>) -> Vec<LogReceipt> {
        let mut client = SessionsClient::new(self.channel().await);
        let request = self.as_worker(tokio_stream::iter(pieces));
        let receipts = client.ship_logs(request).await.unwrap().into_inner();
        receipts.map(Result::unwrap).collect().await
    }

    /// Returns the current output of a task.
    pub(crate) async fn logs(&self, run: &str, task: &str) -> String {
        text_of(self.read_logs(run, task).await).await
    }

    /// Starts to read the output of a task.
    pub(crate) async fn read_logs(&self, run: &str, task: &str) -> Streaming<api::LogsResponse> {
        let mut client = RunsClient::new(self.channel().await);
        let (run, task) = (run.to_owned(), task.to_owned());
        let request = api::LogsRequest { run, task, ..api::LogsRequest::default() };
        client.logs(self.as_client(request)).await.unwrap().into_inner()
    }

    /// Reports the end of an attempt, and waits until its run has ended.
    pub(crate) async fn finish(&self, holding: &Holding, is_output_late: bool) {
        let finished = Finished { is_output_late, ..Finished::default() };
        let kind = Some(report::Kind::Finished(finished));
        let report = Report { lease: Some(holding.lease.clone()), kind };
        let reports = worker_message::Message::Reports(Reports { reports: vec![report] });
        holding.say.send(WorkerMessage { message: Some(reports) }).await.unwrap();
        let mut client = RunsClient::new(self.channel().await);
        let request = api::WatchRequest { run: holding.run.clone(), ..Default::default() };
        let mut news = client.watch(self.as_client(request)).await.unwrap().into_inner();
        while news.message().await.unwrap().is_some() {}
    }

    /// Checks that a well-behaved client is served.
    pub(crate) async fn serves_honest_clients(&self) {
        let answer = self.submit(vec![header(), piece("tasks: {a: {noop: true}}".into())]).await;
        assert!(!answer.unwrap().run.is_empty());
    }
}

/// Reads all output until its end.
pub(crate) async fn text_of(mut pieces: Streaming<api::LogsResponse>) -> String {
    let mut text = Vec::new();
    let mut has_ended = false;
    while let Some(piece) = pieces.message().await.unwrap() {
        text.extend(piece.data);
        has_ended |= piece.is_end;
    }
    assert!(has_ended, "the stream was broken off");
    String::from_utf8(text).unwrap()
}

fn with_token<T>(message: T, header: Secret) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", header.expose().parse().unwrap());
    request
}

pub(crate) fn header() -> api::SubmitRequest {
    api::SubmitRequest { part: Some(Part::Header(api::SubmitHeader::default())) }
}

pub(crate) fn piece(bytes: Vec<u8>) -> api::SubmitRequest {
    api::SubmitRequest { part: Some(Part::Document(bytes.into())) }
}

/// Adds this number of headers of 1 KiB each.
pub(crate) fn headers_of<T>(request: &mut Request<T>, kib: usize) {
    for at in 0..kib {
        let name = format!("x-{at}").parse::<tonic::metadata::MetadataKey<_>>().unwrap();
        request.metadata_mut().insert(name, "x".repeat(1024).parse().unwrap());
    }
}
