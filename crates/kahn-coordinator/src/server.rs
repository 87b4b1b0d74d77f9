//! Starts and stops a coordinator: store, election, and the server in front of it.

mod frontend;
mod identity;
mod interrupted;
mod lifecycle;
mod listener;
mod open;
mod probe;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kahn_net::TlsFileError;
use kahn_proto::api::runs_server::RunsServer;
use kahn_runtime::health::Readiness;
use kahn_runtime::metrics::Metrics;
use kahn_runtime::telemetry::Traces;
use kahn_runtime::token::{Token, TokenError};
use kahn_store::StoreError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tracing::{error, info};

pub use listener::{Listener, LocalConnector};
pub use open::begin_import;
pub use probe::Probe;

use crate::config::{BlobsError, Config, InvalidConfig, Limits};
use crate::driver::Ended;
use crate::election::Candidate;
use crate::grpc::auth::{AuthLayer, Tokens};
use crate::grpc::limits::message_limit_layer;
use crate::grpc::runs::RunService;
use crate::histories::ArchiveStats;
use crate::leader::Shared;
use crate::replica::RecoveryError;
use crate::role::{Role, Roles};
use crate::stats::Stats;
use frontend::Frontend;
use identity::Identity;
use lifecycle::Lifecycle;
use listener::Connections;

/// Why a coordinator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// A token cannot be read or created.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// The store cannot be opened.
    #[error("store {url}: {source}")]
    Store {
        /// The URL without its password.
        url: String,
        /// The store's error.
        source: StoreError,
    },
    /// The blob store cannot be used.
    #[error("coordinator.{0}")]
    Blobs(#[from] BlobsError),
    /// The blob store has the objects of another cluster.
    #[error(
        "the blob store {0} belongs to another cluster; give each its own prefix with \
         coordinator.blobs.url, or remove the object `cluster` if that cluster does not exist"
    )]
    ForeignBlobs(String),
    /// The state cannot be recovered.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// Another coordinator uses the data directory.
    #[error("another coordinator uses {0}; give each its own with coordinator.data_dir")]
    InUse(String),
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

const DURABILITY_HELP: &str = "what an acknowledged change survives: 0 nothing, 1 a crash of the \
                               store, 2 the loss of power, 3 the loss of a host";

/// A running coordinator, either the leader or a standby. Dropping it stops it immediately, like a
/// crash.
#[derive(Debug)]
pub struct Coordinator {
    address: Option<SocketAddr>,
    is_secure: bool,
    tokens: Tokens,
    readiness: Readiness,
    roles: Roles,
    stopping: CancellationToken,
    closing: CancellationToken,
    lifecycle: Option<JoinHandle<Ended>>,
    server: JoinHandle<()>,
    /// Locked while the coordinator runs.
    _identity: Option<Identity>,
}

impl Coordinator {
    /// Opens the store, takes part in the election, and starts to serve. Returns when this
    /// coordinator is either the leader or a standby.
    ///
    /// # Errors
    ///
    /// Returns a [`StartError`] if any of these steps fails.
    pub async fn start(
        config: Config,
        listener: Listener,
        services: Services,
    ) -> Result<Self, StartError> {
        let mut settings = config.settings()?;
        let tokens = open::tokens(&config)?;
        let mut identity = Identity::of(&config)?;
        let store = open::store(&config, &mut settings).await?;
        services.readiness.set("store", Ok(()));
        let level = store.durability();
        info!(durability = %level, partitions = settings.partitions, "store open");
        services.metrics.gauge("store_durability", DURABILITY_HELP).set(level.level().into());
        let (address, is_secure) = (listener.address(), listener.is_secure());
        let (owner, claim) = identity::candidacy(&config, &listener, identity.as_ref())?;
        let (roles, stopping) = (Roles::new(), CancellationToken::new());
        let cluster = store.meta().id.to_string();
        let (logs, histories) =
            open::blobs(&config, &cluster, &services.metrics, &stopping).await?;
        let stats = Stats::new(&services.metrics, services.readiness.clone(), &config.metrics);
        let mut lifecycle = Lifecycle {
            candidate: Candidate::new(Arc::clone(&store), settings, owner, claim),
            shared: Shared {
                store,
                limits: config.limits.clone(),
                retention: config.retention.clone(),
                is_store_shared: config.store.is_shared(),
                logs,
                histories,
                archive_stats: ArchiveStats::new(&services.metrics),
                stats,
                traces: services.traces,
                next_session: Arc::default(),
            },
            roles: roles.clone(),
            readiness: services.readiness.clone(),
            stopping: stopping.clone(),
            following: None,
            peer_tls: is_secure.then(|| config.tls.peers()),
        };
        let stage = lifecycle.begin().await?;
        if let Some(identity) = &mut identity {
            let what = config.data_dir.display().to_string();
            identity.keep().map_err(|source| StartError::Io { what, source })?;
        }
        let closing = CancellationToken::new();
        let frontend = Frontend::new(roles.clone());
        let auth = AuthLayer {
            tokens: tokens.clone(),
            needs_worker_certificate: is_secure && config.tls.needs_worker_certificate(),
        };
        // Not before: who connects to a coordinator that does not serve yet waits in vain.
        let connections = listener.open().map_err(|source| StartError::Io {
            what: format!("cannot listen on {}", config.listen),
            source,
        })?;
        let server = serve(&config.limits, connections, auth, frontend, closing.clone());
        if let Some(address) = address {
            info!(%address, "serving");
        }
        Ok(Self {
            address,
            is_secure,
            tokens,
            readiness: services.readiness,
            roles,
            stopping,
            closing,
            lifecycle: Some(tokio::spawn(lifecycle.run(stage))),
            server,
            _identity: identity,
        })
    }

    /// Returns the address of its socket, if any.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Returns the URL at which it can be reached on this host, if it listens on a socket.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        let scheme = if self.is_secure { "https" } else { "http" };
        self.address.map(|address| format!("{scheme}://{address}"))
    }

    /// Returns the clients' token.
    #[must_use]
    pub fn client_token(&self) -> &Token {
        &self.tokens.client
    }

    /// Returns the workers' token.
    #[must_use]
    pub fn worker_token(&self) -> &Token {
        &self.tokens.worker
    }

    /// Returns a probe of its progress.
    #[must_use]
    pub fn probe(&self) -> Probe {
        Probe::new(self.roles.clone())
    }

    /// Waits until it ends by itself, because its log contains what no coordinator has written, or
    /// because of a bug.
    pub async fn ended(&mut self) {
        if let Some(lifecycle) = &mut self.lifecycle {
            match lifecycle.await {
                Ok(ended) => info!(?ended, "the coordinator has ended"),
                Err(failure) => error!(%failure, "the coordinator has failed"),
            }
            self.lifecycle = None;
        }
    }

    /// Stops the coordinator. A leader makes everything durable, releases the partitions, and
    /// closes all streams. Workers continue with the attempts they hold.
    pub async fn stop(mut self) {
        self.readiness.set("coordinator", Err("stopping".into()));
        self.stopping.cancel();
        self.ended().await;
        self.roles.set(Role::Stopping);
        self.closing.cancel();
        if tokio::time::timeout(Duration::from_secs(2), &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if let Some(lifecycle) = &self.lifecycle {
            lifecycle.abort();
        }
        self.server.abort();
    }
}

fn serve(
    limits: &Limits,
    connections: Connections,
    auth: AuthLayer,
    frontend: Frontend,
    closing: CancellationToken,
) -> JoinHandle<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let mut routes = Routes::new(health_service);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(kahn_proto::FILE_DESCRIPTOR_SET)
        .build_v1();
    match reflection {
        Ok(reflection) => routes = routes.add_service(reflection),
        Err(failure) => error!(%failure, "server reflection is off"),
    }
    let routes = Routes::from(routes.into_axum_router().fallback_service(frontend)).prepare();
    let router = Server::builder()
        .concurrency_limit_per_connection(limits.calls_per_connection)
        .max_concurrent_streams(Some(limits.streams_per_connection))
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_header_list_size(Some(16 << 10))
        .initial_stream_window_size(Some(1 << 20))
        .initial_connection_window_size(Some(4 << 20))
        .layer(auth)
        .layer(message_limit_layer())
        .add_routes(routes);
    tokio::spawn(async move {
        health.set_serving::<RunsServer<RunService>>().await;
        if let Err(failure) = connections.serve(router, closing).await {
            error!(%failure, "the server has ended");
        }
    })
}
