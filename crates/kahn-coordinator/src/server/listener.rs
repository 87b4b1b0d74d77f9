//! Incoming connections: from a socket or from the same process.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::layer::util::{Identity, Stack};

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
    Tcp(TcpListener),
    Local(mpsc::Receiver<DuplexStream>),
}

impl Listener {
    /// Listens on a socket; port 0 picks a free one.
    ///
    /// # Errors
    ///
    /// Returns an error if the address cannot be bound.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(Kind::Tcp(TcpListener::bind(address).await?)))
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
            Kind::Tcp(listener) => listener.local_addr().ok(),
            Kind::Local(_) => None,
        }
    }

    pub(super) async fn serve(
        self,
        router: Router<Layers>,
        closing: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let closed = closing.cancelled_owned();
        match self.0 {
            Kind::Tcp(listener) => {
                let incoming = TcpListenerStream::new(listener).map(|stream| {
                    stream.inspect(|stream| {
                        // Small messages must not be delayed. Without this option they are only
                        // slower.
                        let _ = stream.set_nodelay(true);
                    })
                });
                router.serve_with_incoming_shutdown(incoming, closed).await
            }
            Kind::Local(connections) => {
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
