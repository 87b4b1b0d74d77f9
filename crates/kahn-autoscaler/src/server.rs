//! Starts and stops an autoscaler.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use kahn_net::{Acceptor, Incoming, Protocol, ServerTls, TlsFileError};
use kahn_proto::externalscaler::external_scaler_server::ExternalScalerServer;
use kahn_runtime::health::Readiness;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::{error, info};

use crate::config::{Config, InvalidConfig};
use crate::deletion_cost::{self, NotInCluster, Pods};
use crate::demand::{self, Coordinators};
use crate::scaler::Scaler;

/// Maximum size of a message, in bytes. Those of KEDA are some hundreds.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Maximum number of calls and streams on one connection.
const STREAMS_PER_CONNECTION: u32 = 512;
/// How often it is checked whether a silent client is still there, and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Why an autoscaler did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// A certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// It is to annotate pods, but runs outside Kubernetes.
    #[error(transparent)]
    NotInCluster(#[from] NotInCluster),
    /// The address cannot be used.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The OS error.
        source: io::Error,
    },
}

/// A running autoscaler. Dropping it stops it immediately.
#[derive(Debug)]
pub struct Autoscaler {
    address: SocketAddr,
    is_secure: bool,
    closing: CancellationToken,
    serving: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
}

impl Autoscaler {
    /// Starts to ask the coordinators and to serve. Does not wait for the first answer.
    ///
    /// # Errors
    ///
    /// Returns a [`StartError`] if the configuration is invalid or the address cannot be used.
    pub fn start(
        config: &Config,
        coordinators: Coordinators,
        readiness: Readiness,
    ) -> Result<Self, StartError> {
        let tls = config
            .server_tls()?
            .map(|files| ServerTls::load(files, Protocol::Http2))
            .transpose()?;
        let costs = &config.deletion_cost;
        let pods =
            costs.enabled.then(|| Pods::of_cluster(costs.namespace.as_deref())).transpose()?;
        let failed = |source| StartError::Listen { address: config.listen, source };
        let acceptor = Acceptor::bind(config.listen, tls).map_err(failed)?;
        let (address, is_secure) = (acceptor.local_addr().map_err(failed)?, acceptor.is_secure());
        let incoming = acceptor.run().map_err(failed)?;
        let (answers, demand) = demand::channel();
        let mut tasks = vec![tokio::spawn(demand::ask(coordinators.clone(), answers, readiness))];
        if let Some(pods) = pods {
            tasks.push(tokio::spawn(deletion_cost::keep(coordinators, demand.clone(), pods)));
        }
        let closing = CancellationToken::new();
        let serving = tokio::spawn(serve(Scaler::new(demand), incoming, closing.clone()));
        info!(%address, "serving");
        Ok(Self { address, is_secure, closing, serving, tasks })
    }

    /// Returns the URL of the server for KEDA.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Accepts no more connections, ends the streams, and waits for calls under way.
    pub async fn stop(mut self) {
        self.closing.cancel();
        // Streams end when nothing will be told any more.
        for task in &self.tasks {
            task.abort();
        }
        if let Err(error) = (&mut self.serving).await {
            error!(%error, "the server has failed");
        }
    }
}

impl Drop for Autoscaler {
    fn drop(&mut self) {
        self.serving.abort();
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn serve(scaler: Scaler, incoming: Incoming, closing: CancellationToken) {
    let Incoming { ready, plain, accepting } = incoming;
    let refusing = tokio::spawn(kahn_net::refuse_plain(plain));
    let service = ExternalScalerServer::new(scaler)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let closed = async {
        closing.cancelled().await;
        accepting.stop().await;
    };
    let served = Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_service(service)
        .serve_with_incoming_shutdown(ReceiverStream::new(ready).map(Ok::<_, io::Error>), closed)
        .await;
    refusing.abort();
    if let Err(error) = served {
        error!(%error, "the server has failed");
    }
}
