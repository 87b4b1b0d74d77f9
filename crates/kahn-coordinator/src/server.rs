//! Starts and stops a coordinator: store, recovery, driver and services.

mod listener;
mod open;
mod retention;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use kahn_model::Timestamp;
use kahn_proto::api::runs_server::RunsServer;
use kahn_proto::api::workers_server::WorkersServer;
use kahn_proto::worker::sessions_server::SessionsServer;
use kahn_runtime::clock::Clock;
use kahn_runtime::health::Readiness;
use kahn_runtime::metrics::Metrics;
use kahn_runtime::telemetry::Traces;
use kahn_runtime::token::{Token, TokenError};
use kahn_store::{Appender, StoreError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::{error, info};

pub use listener::{Listener, LocalConnector};

use crate::config::{Config, InvalidConfig};
use crate::driver::{Driver, Ended, Log, Parts};
use crate::evaluate::Evaluators;
use crate::grpc::auth::{AuthLayer, Tokens};
use crate::grpc::limits::message_limit_layer;
use crate::grpc::runs::RunService;
use crate::grpc::sessions::SessionService;
use crate::grpc::workers::WorkerService;
use crate::inbox::{Handle, Input};
use crate::logs::{Caps, Logs};
use crate::recovery::{RecoveryError, recover};
use crate::service::Service;
use crate::sessions::Sessions;
use crate::spans::Spans;
use crate::stats::Stats;
use crate::watchers::Watchers;

/// Capacity of the driver's inbox; senders wait if it is full.
const INBOX_MAX: usize = 8192;

/// Why a coordinator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// A token cannot be read or created.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The store cannot be opened.
    #[error("store {url}: {source}")]
    Store {
        /// The URL without its password.
        url: String,
        /// The store's error.
        source: StoreError,
    },
    /// The state cannot be recovered.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// An operating system call failed.
    #[error("{what}: {source}")]
    Io {
        /// The attempted operation.
        what: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

/// What a coordinator shares with the rest of its process.
#[derive(Clone, Debug)]
pub struct Services {
    /// The coordinator's metrics.
    pub metrics: Metrics,
    /// The readiness of the process.
    pub readiness: Readiness,
    /// The destination of spans of runs and attempts.
    pub traces: Traces,
}

/// A running coordinator. Dropping it stops it immediately, like a crash.
#[derive(Debug)]
pub struct Coordinator {
    handle: Handle,
    address: Option<SocketAddr>,
    client_token: Arc<Token>,
    worker_token: Arc<Token>,
    readiness: Readiness,
    closing: CancellationToken,
    driver: Option<JoinHandle<Ended>>,
    server: JoinHandle<()>,
    retention: JoinHandle<()>,
}

impl Coordinator {
    /// Takes over all partitions, replays their logs, and starts to serve.
    ///
    /// # Errors
    ///
    /// Returns a [`StartError`] if any of these steps fails.
    pub async fn start(
        config: Config,
        listener: Listener,
        services: Services,
    ) -> Result<Self, StartError> {
        let settings = config.settings()?;
        let tokens = open::tokens(&config)?;
        let store = open::store(&config, settings.partitions).await?;
        services.readiness.set("store", Ok(()));
        info!(durability = %store.durability(), partitions = settings.partitions, "store open");
        let mut recovered = recover(&store, settings, open::nonce()?).await?;
        let clock = Arc::new(Clock::starting_after(recovered.latest.0));
        let (tx, inbox) = mpsc::channel(INBOX_MAX);
        let handle = Handle::new(tx.clone());
        let mut durable = Log::new(Arc::clone(&store), tx.clone());
        for owned in &recovered.owned {
            let events = forward(tx.clone());
            let (term, head) = (owned.acquired.term, owned.acquired.head);
            let appender = Appender::spawn(Arc::clone(&store), owned.partition, term, head, events);
            durable.add(term, appender, owned.log_bytes);
        }
        let term = recovered.owned[0].acquired.term;
        let first = recovered.core.begin(Timestamp(clock.unix_micros()), term);
        let watchers = Watchers::default();
        let evaluators = Evaluators::start_thread(tx.clone())
            .map_err(|source| StartError::Io { what: "evaluator thread".into(), source })?;
        let spans = Spans::new(services.traces, recovered.core.state());
        let parts = Parts {
            core: recovered.core,
            clock,
            inbox,
            durable,
            sessions: Sessions::default(),
            watchers: watchers.clone(),
            evaluators,
            stats: Stats::new(&services.metrics, services.readiness.clone(), &config.metrics),
            spans,
        };
        let driver = tokio::spawn(Driver::new(parts, first).run());
        let caps = Caps {
            attempt_bytes: config.limits.log_bytes,
            total_bytes: config.limits.total_log_bytes,
        };
        let logs = Logs::new(config.data_dir.join("logs"), caps);
        let closing = CancellationToken::new();
        let address = listener.address();
        let service = Service::new(handle.clone(), watchers, logs.clone(), config.limits.clone());
        let retention = retention::spawn(handle.clone(), logs.clone(), config.limits.finished_runs);
        let sessions = SessionService {
            handle: handle.clone(),
            logs,
            next_session: Arc::new(AtomicU64::new(1)),
        };
        let server = serve(&config, listener, tokens.clone(), service, sessions, closing.clone());
        services.readiness.set("coordinator", Ok(()));
        if let Some(address) = address {
            info!(%address, "serving");
        }
        Ok(Self {
            handle,
            address,
            client_token: tokens.client,
            worker_token: tokens.worker,
            readiness: services.readiness,
            closing,
            driver: Some(driver),
            server,
            retention,
        })
    }

    /// Returns the address of its socket, if any.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Returns the clients' token.
    #[must_use]
    pub fn client_token(&self) -> &Token {
        &self.client_token
    }

    /// Returns the workers' token.
    #[must_use]
    pub fn worker_token(&self) -> &Token {
        &self.worker_token
    }

    /// Returns a handle to its driver for use within the process.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until it ends by itself, because it has lost a partition to another coordinator.
    pub async fn ended(&mut self) {
        if let Some(driver) = &mut self.driver {
            match driver.await {
                Ok(ended) => info!(?ended, "the driver has ended"),
                Err(failure) => error!(%failure, "the driver has failed"),
            }
            self.driver = None;
            self.readiness.set("coordinator", Err("the term has ended".into()));
        }
    }

    /// Stops the coordinator: makes everything durable, releases the partitions, and closes all
    /// streams. Workers continue with the attempts they hold.
    pub async fn stop(mut self) {
        self.readiness.set("coordinator", Err("stopping".into()));
        self.retention.abort();
        // If the driver has already ended, there is nothing to close.
        drop(self.handle.send(Input::Close).await);
        self.ended().await;
        self.closing.cancel();
        if tokio::time::timeout(Duration::from_secs(2), &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver {
            driver.abort();
        }
        self.server.abort();
        self.retention.abort();
    }
}

/// Forwards the events of a log to the driver. The inbox has more capacity than all logs can fill.
fn forward(tx: mpsc::Sender<Input>) -> impl Fn(kahn_store::AppendEvent) + Send + 'static {
    move |event| {
        if let Err(mpsc::error::TrySendError::Full(input)) = tx.try_send(Input::Log(event)) {
            let tx = tx.clone();
            tokio::spawn(async move { drop(tx.send(input).await) });
        }
    }
}

fn serve(
    config: &Config,
    listener: Listener,
    tokens: Tokens,
    service: Service,
    sessions: SessionService,
    closing: CancellationToken,
) -> JoinHandle<()> {
    let limits = config.limits.clone();
    let max = limits.message_bytes;
    let (runs, workers) = (RunService(service.clone()), WorkerService(service));
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(kahn_proto::FILE_DESCRIPTOR_SET)
        .build_v1();
    let router = Server::builder()
        .concurrency_limit_per_connection(limits.calls_per_connection)
        .max_concurrent_streams(Some(limits.streams_per_connection))
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_header_list_size(Some(16 << 10))
        .initial_stream_window_size(Some(1 << 20))
        .initial_connection_window_size(Some(4 << 20))
        .tcp_nodelay(true)
        .layer(AuthLayer(tokens))
        .layer(message_limit_layer())
        .add_service(health_service)
        .add_service(
            RunsServer::new(runs).max_decoding_message_size(max).max_encoding_message_size(max),
        )
        .add_service(
            WorkersServer::new(workers)
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
        )
        .add_service(
            SessionsServer::new(sessions)
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
        );
    let router = match reflection {
        Ok(reflection) => router.add_service(reflection),
        Err(failure) => {
            error!(%failure, "server reflection is off");
            router
        }
    };
    tokio::spawn(async move {
        health.set_serving::<RunsServer<RunService>>().await;
        if let Err(failure) = listener.serve(router, closing).await {
            error!(%failure, "the server has ended");
        }
    })
}
