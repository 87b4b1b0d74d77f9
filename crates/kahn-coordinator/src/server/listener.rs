//! Incoming connections: from a socket or from the same process.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use kahn_net::{Acceptor, Incoming, Protocol, ServerTls};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::layer::util::{Identity, Stack};

use super::StartError;
use crate::config::Config;
use crate::grpc::auth::AuthLayer;
use crate::grpc::limits::MessageLimitLayer;

/// Buffer size of an in-memory connection, in bytes.
const PIPE_BYTES: usize = 1 << 20;

/// The layers around the services.
type Layers = Stack<MessageLimitLayer, Stack<AuthLayer, Identity>>;

/// A source of incoming connections.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(Acceptor),
    Local(mpsc::Receiver<DuplexStream>),
}

impl Listener {
    /// Binds the configured address, with TLS if that is configured; port 0 picks a free one.
    /// Connections are refused until the coordinator serves.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration is invalid, a certificate cannot be read, or the address
    /// cannot be bound.
    pub async fn bind(config: &Config) -> Result<Self, StartError> {
        config.settings()?;
        let tls = config
            .tls
            .server()?
            .map(|files| ServerTls::load(files, Protocol::Http2))
            .transpose()?;
        let acceptor = Acceptor::bind(config.listen, tls).map_err(|source| StartError::Io {
            what: format!("cannot listen on {}", config.listen),
            source,
        })?;
        Ok(Self(Kind::Tcp(acceptor)))
    }

    /// Accepts connections only from this process, over memory with the same protocol.
    #[must_use]
    pub fn local() -> (LocalConnector, Self) {
        let (tx, rx) = mpsc::channel(16);
        (LocalConnector(Arc::new(tx)), Self(Kind::Local(rx)))
    }

    /// Returns the address of the socket, if any.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Tcp(acceptor) => acceptor.local_addr().ok(),
            Kind::Local(_) => None,
        }
    }

    /// Returns whether connections use TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        matches!(&self.0, Kind::Tcp(acceptor) if acceptor.is_secure())
    }

    /// Accepts connections from now on.
    pub(super) fn open(self) -> io::Result<Connections> {
        Ok(match self.0 {
            Kind::Tcp(acceptor) => Connections::Tcp(acceptor.run()?),
            Kind::Local(connections) => Connections::Local(connections),
        })
    }
}

/// Incoming connections.
#[derive(Debug)]
pub(super) enum Connections {
    Tcp(Incoming),
    Local(mpsc::Receiver<DuplexStream>),
}

impl Connections {
    pub(super) async fn serve(
        self,
        router: Router<Layers>,
        closing: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let closed = closing.cancelled_owned();
        match self {
            Self::Tcp(Incoming { ready, plain, accepting }) => {
                let refusing = tokio::spawn(kahn_net::refuse_plain(plain));
                let ready = ReceiverStream::new(ready).map(Ok::<_, io::Error>);
                let closed = async {
                    closed.await;
                    accepting.stop().await;
                };
                let served = router.serve_with_incoming_shutdown(ready, closed).await;
                refusing.abort();
                served
            }
            Self::Local(connections) => {
                let incoming = ReceiverStream::new(connections).map(Ok::<_, io::Error>);
                router.serve_with_incoming_shutdown(incoming, closed).await
            }
        }
    }
}

/// Connects to a coordinator in the same process.
#[derive(Clone, Debug)]
pub struct LocalConnector(Arc<mpsc::Sender<DuplexStream>>);

impl LocalConnector {
    /// Returns a channel that connects on first use and reconnects if necessary.
    #[must_use]
    pub fn channel(&self) -> Channel {
        let sender = Arc::clone(&self.0);
        let connector = tower::service_fn(move |_: Uri| {
            let sender = Arc::clone(&sender);
            async move {
                let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
                let gone = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
                sender.send(theirs).await.map_err(gone)?;
                Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(ours))
            }
        });
        Endpoint::from_static("http://in-process").connect_with_connector_lazy(connector)
    }
}
