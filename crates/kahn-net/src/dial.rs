//! Makes a connection to a coordinator.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::AsyncBufReadExt as _;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};

use crate::stream::Stream;
use crate::tls::Protocol;
use crate::tls::client::{ClientTls, Session};
use crate::tls::explain::{explain, tls_cause};
use crate::tls::files::TlsFileError;

/// How long to wait for a connection, and then for its handshake.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait for one address of a name before the next one is tried, too (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);
/// How long to wait for the decision about a client certificate.
const DECISION_TIMEOUT: Duration = Duration::from_millis(500);

/// Why there is no connection to any of the addresses.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct DialError(pub(crate) Vec<Failure>);

impl DialError {
    /// Returns whether it is of no use to try again before a certificate or setting is changed.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.0.iter().all(|failure| !matches!(failure, Failure::Unreachable { .. }))
    }

    /// Returns whether a file of this side cannot be used.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.0.iter().any(|failure| matches!(failure, Failure::File(_)))
    }

    /// Returns the error that caused `error`, if it was one of these.
    #[must_use]
    pub fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut errors = std::iter::successors(Some(error), |error| (**error).source());
        errors.find_map(|error| error.downcast_ref())
    }
}

/// Why there is no connection to one address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Nothing answers there.
    #[error("{target}: {source}")]
    Unreachable { target: String, source: io::Error },
    /// The other side cannot be trusted, or does not trust this one.
    #[error("the coordinator at {target} {reason}")]
    Tls { target: String, reason: String },
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] TlsFileError),
}

/// What is needed for TLS with one server.
#[derive(Clone, Debug)]
pub(crate) struct Security {
    /// The files, for messages.
    pub files: Arc<ClientTls>,
    /// The name that the certificate must have.
    pub server: ServerName<'static>,
}

/// Connects to one of the addresses of `target`, a host and a port: the first one with which TLS, if
/// it is used, succeeds.
pub(crate) async fn dial(target: &str, security: Option<Security>) -> Result<Stream, Failure> {
    let unreachable = |source| Failure::Unreachable { target: target.to_owned(), source };
    let mut waiting: VecDeque<_> = lookup_host(target).await.map_err(unreachable)?.collect();
    let mut attempts = JoinSet::new();
    let no_address = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut worst = unreachable(no_address);
    loop {
        if let Some(address) = waiting.pop_front() {
            attempts.spawn(connect(target.to_owned(), address, security.clone()));
        }
        let ended = match waiting.is_empty() {
            // Every attempt has its own timeouts.
            true => attempts.join_next().await,
            false => match timeout(STAGGER, attempts.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            },
        };
        match ended {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(failure))) => worst = worst.or_worse(failure),
            Some(Err(error)) => worst = worst.or_worse(unreachable(io::Error::other(error))),
            None => return Err(worst),
        }
    }
}

impl Failure {
    /// Returns the one that says more about what to do.
    fn or_worse(self, other: Self) -> Self {
        match self {
            Self::Unreachable { .. } => other,
            decided => decided,
        }
    }
}

async fn connect(
    target: String,
    address: SocketAddr,
    security: Option<Security>,
) -> Result<Stream, Failure> {
    let unreachable = |source| Failure::Unreachable { target: target.clone(), source };
    let tcp = within(TIMEOUT, TcpStream::connect(address)).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let Some(security) = security else { return Ok(Stream::Plain(tcp)) };
    let session = session(&security.files).await?;
    handshake(tcp, &security.server, &session).await.map_err(|error| match tls_cause(&error) {
        Some(cause) => {
            let was_requested = session.certificate.was_requested();
            let reason = explain(cause, &security.files, was_requested);
            Failure::Tls { target: target.clone(), reason }
        }
        None => unreachable(error),
    })
}

/// Reads the files. They are small, but may be on a slow disk.
async fn session(files: &Arc<ClientTls>) -> Result<Session, TlsFileError> {
    let files = Arc::clone(files);
    let reading = tokio::task::spawn_blocking(move || files.session(Some(Protocol::Http2))).await;
    reading.map_err(|error| TlsFileError::new("certificates", error))?
}

async fn handshake(
    tcp: TcpStream,
    server: &ServerName<'static>,
    session: &Session,
) -> io::Result<Stream> {
    let connector = TlsConnector::from(Arc::clone(&session.config));
    let mut stream = within(TIMEOUT, connector.connect(server.clone(), tcp)).await?;
    if stream.get_ref().1.alpn_protocol() != Some(Protocol::Http2.name()) {
        let alert = rustls::AlertDescription::NoApplicationProtocol;
        return Err(io::Error::other(rustls::Error::AlertReceived(alert)));
    }
    if session.certificate.was_requested() {
        // In TLS 1.3 the server checks the certificate after the handshake. If it accepts it, it just
        // begins to speak HTTP/2. Some servers wait for the client to speak first.
        match timeout(DECISION_TIMEOUT, stream.fill_buf()).await {
            Ok(Ok([])) => {
                let what = "closed the connection after the TLS handshake";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
            }
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(error)) => return Err(error),
        }
    }
    Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer");
    timeout(limit, work).await.map_err(late)?
}
