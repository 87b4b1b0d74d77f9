//! A coordinator on a free port, and raw calls to it.

use std::net::{Ipv4Addr, SocketAddr};

use kahn_coordinator::{Config, Coordinator, Limits, Listener, Services, StoreConfig};
use kahn_proto::api::runs_client::RunsClient;
use kahn_proto::api::{self, submit_request::Part};
use kahn_proto::worker::WorkerMessage;
use kahn_proto::worker::sessions_client::SessionsClient;
use kahn_runtime::health::Readiness;
use kahn_runtime::metrics::Metrics;
use kahn_runtime::secret::Secret;
use kahn_runtime::telemetry::Traces;
use tokio_stream::StreamExt as _;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Largest DAG file of this server.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 8 << 20;
/// Streams at one time on one connection of this server.
pub(crate) const STREAMS_MAX: usize = 16;

/// A coordinator on a free port.
pub(crate) struct Server {
    coordinator: Coordinator,
    _dir: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: dir.path().to_owned(),
            store: StoreConfig { url: Some(Secret::new("memory")), ..StoreConfig::default() },
            limits: Limits {
                document_bytes: DOCUMENT_BYTES_MAX,
                streams_per_connection: u32::try_from(STREAMS_MAX).unwrap(),
                ..Limits::default()
            },
            ..Config::default()
        };
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let services = Services {
            metrics: Metrics::new(),
            readiness: Readiness::new(),
            traces: Traces::off(),
        };
        let listener = Listener::tcp(free).await.unwrap();
        let coordinator = Coordinator::start(config, listener, services).await.unwrap();
        Self { coordinator, _dir: dir }
    }

    /// A new connection.
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

    /// Submits in these parts.
    pub(crate) async fn submit(
        &self,
        parts: Vec<api::SubmitRequest>,
    ) -> Result<api::SubmitResponse, Status> {
        let mut client = RunsClient::new(self.channel().await);
        let answer = client.submit(self.as_client(tokio_stream::iter(parts))).await?;
        Ok(answer.into_inner())
    }

    /// Says this as a worker, goes on listening, and gives the status with which the stream ends.
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

    /// Whoever behaves is served.
    pub(crate) async fn serves_honest_clients(&self) {
        let answer = self.submit(vec![header(), piece("tasks: {a: {noop: true}}".into())]).await;
        assert!(!answer.unwrap().run.is_empty());
    }
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

/// Adds so many headers of a kibibyte each.
pub(crate) fn headers_of<T>(request: &mut Request<T>, kib: usize) {
    for at in 0..kib {
        let name = format!("x-{at}").parse::<tonic::metadata::MetadataKey<_>>().unwrap();
        request.metadata_mut().insert(name, "x".repeat(1024).parse().unwrap());
    }
}
