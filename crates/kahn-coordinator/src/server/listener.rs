//! Where calls come from: a socket, or the same process.

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

/// Bytes on their way between the two ends of an in-memory connection.
const PIPE_BYTES: usize = 1 << 20;

/// The layers around the services.
type Layers = Stack<MessageLimitLayer, Stack<AuthLayer, Identity>>;

/// Where calls come from.
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
    /// When the system refuses the address.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(Kind::Tcp(TcpListener::bind(address).await?)))
    }

    /// Listens to this process only: the same protocol over memory.
    #[must_use]
    pub fn local() -> (LocalConnector, Self) {
        let (tx, rx) = mpsc::channel(16);
        (LocalConnector(Arc::new(tx)), Self(Kind::Local(rx)))
    }

    /// Where it listens, if on a socket.
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
                        // Small messages must not wait for each other; without it they are slower.
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

/// Reaches a coordinator in the same process.
#[derive(Clone, Debug)]
pub struct LocalConnector(Arc<mpsc::Sender<DuplexStream>>);

impl LocalConnector {
    /// A channel that connects when it is first used, and again whenever it must.
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
