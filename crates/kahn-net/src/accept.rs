//! Accepts connections, and makes the TLS handshakes outside the loop that accepts them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream};
use tracing::{debug, warn};

use crate::stream::Stream;
use crate::tls::server::ServerTls;

/// Maximum number of handshakes at a time; more connections wait to be accepted.
const HANDSHAKES_MAX: usize = 1024;
/// How long a client may take to begin the handshake.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client may take for the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept, usually because file descriptors are exhausted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Maximum number of connections that wait to be served.
const WAITING_MAX: usize = 64;
/// Maximum number of connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// The first byte of a TLS connection: a record of the type `handshake`.
const TLS_HANDSHAKE: u8 = 0x16;

/// A socket with an address, with or without TLS. It refuses connections until it runs, so that
/// whoever connects meanwhile turns to another server at once.
#[derive(Debug)]
pub struct Acceptor {
    socket: TcpSocket,
    tls: Option<ServerTls>,
}

/// The connections of an [`Acceptor`], which listens until this is dropped.
#[derive(Debug)]
pub struct Incoming {
    /// Connections that are ready for use.
    pub ready: mpsc::Receiver<Stream>,
    /// Connections without TLS to a socket that requires it.
    pub plain: mpsc::Receiver<Stream>,
    /// The task that accepts them.
    pub accepting: Accepting,
}

/// The task that accepts the connections of a socket. It ends with the receiver of the connections.
#[derive(Debug)]
pub struct Accepting(JoinHandle<()>);

impl Accepting {
    /// Closes the socket. When this returns, connections to it are refused.
    pub async fn stop(self) {
        self.0.abort();
        // It was aborted, or has ended.
        drop(self.0.await);
    }
}

impl Acceptor {
    /// Binds a socket to an address; port 0 picks a free one.
    ///
    /// # Errors
    ///
    /// Returns an error if the address cannot be bound.
    pub fn bind(address: SocketAddr, tls: Option<ServerTls>) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // Connections of an earlier process may still be in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self { socket, tls })
    }

    /// Returns the address of the socket.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Returns whether connections use TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Listens, and accepts connections in the background until the result is dropped.
    ///
    /// # Errors
    ///
    /// Returns an error if another process listens on the address.
    pub fn run(self) -> io::Result<Incoming> {
        let Self { socket, tls } = self;
        let accepting = Listening { listener: socket.listen(BACKLOG)?, tls };
        let (ready_tx, ready) = mpsc::channel(WAITING_MAX);
        let (plain_tx, plain) = mpsc::channel(1);
        let accepting = Accepting(tokio::spawn(accepting.accept_all(ready_tx, plain_tx)));
        Ok(Incoming { ready, plain, accepting })
    }
}

/// A listening socket.
struct Listening {
    listener: TcpListener,
    tls: Option<ServerTls>,
}

impl Listening {
    async fn accept_all(self, ready: mpsc::Sender<Stream>, plain: mpsc::Sender<Stream>) {
        let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &room) => accepted,
                () = ready.closed() => return,
            };
            let (tcp, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_client(&error) => continue,
                Err(error) => {
                    warn!(%error, "connection not accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(tls) = &self.tls else {
                // The receiver may be gone, which ends this loop.
                drop(ready.send(Stream::Plain(tcp)).await);
                continue;
            };
            let acceptor = TlsAcceptor::from(tls.current());
            let (ready, plain) = (ready.clone(), plain.clone());
            tokio::spawn(async move {
                let _permit = permit;
                match timeout(HANDSHAKE_TIMEOUT, handshake(tcp, acceptor)).await {
                    // The receivers may be gone.
                    Ok(Ok(stream @ Stream::Tls(_))) => drop(ready.send(stream).await),
                    Ok(Ok(stream @ Stream::Plain(_))) => drop(plain.try_send(stream)),
                    Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
                    Err(_) => debug!("TLS handshake not finished in time"),
                }
            });
        }
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (tcp, _) = listener.accept().await?;
    // Small messages must not be delayed. Without this option they are only slower.
    let _ = tcp.set_nodelay(true);
    Ok((tcp, permit))
}

/// Returns whether a client has given up before its connection was accepted.
fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Makes the handshake, unless the client speaks without TLS.
async fn handshake(tcp: TcpStream, acceptor: TlsAcceptor) -> io::Result<Stream> {
    let mut first = [0; 1];
    let n_first = timeout(FIRST_BYTE_TIMEOUT, tcp.peek(&mut first)).await??;
    if n_first == 1 && first[0] != TLS_HANDSHAKE {
        return Ok(Stream::Plain(tcp));
    }
    Ok(Stream::Tls(Box::new(TlsStream::Server(acceptor.accept(tcp).await?))))
}
