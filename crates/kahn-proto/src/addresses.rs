//! The addresses of the coordinators of a cluster, and connections to whichever of them answers.
//!
//! Any coordinator will do, because those that do not lead forward requests to the leader.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tonic::transport::{Channel, Endpoint, Uri};

/// How long to wait for a connection to one of several addresses.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of addresses.
const ADDRESSES_MAX: usize = 100;

/// The reason that a text is not a list of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("coordinator address `{address}` {reason}; write for example `http://127.0.0.1:7400`")]
pub struct InvalidAddress {
    /// The address that is wrong.
    pub address: String,
    /// What is wrong with it, as the rest of a sentence.
    pub reason: &'static str,
}

/// The addresses of one or more coordinators. Clones remember together which one answered last.
#[derive(Clone, Debug)]
pub struct Addresses {
    all: Arc<[Address]>,
    /// The index of the address to try first.
    first: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Address {
    uri: Uri,
    /// A host and a port, such as `127.0.0.1:7400` or `[::1]:7400`.
    target: String,
}

impl Addresses {
    /// Parses one URL, or several that are separated by commas.
    ///
    /// # Errors
    ///
    /// Returns an error that names the first address that cannot be used.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let all: Result<Arc<[Address]>, _> = text.split(',').map(str::trim).map(address).collect();
        let all = all?;
        if all.len() > ADDRESSES_MAX {
            let address = text.chars().take(60).collect();
            return Err(InvalidAddress { address, reason: "is a list of more than 100" });
        }
        Ok(Self { all, first: Arc::default() })
    }

    /// Returns the URL to try first.
    #[must_use]
    pub fn preferred(&self) -> &Uri {
        &self.all[self.first() % self.all.len()].uri
    }

    /// Tries another address first from now on, because the preferred one does not respond.
    pub fn rotate(&self) {
        self.first.store(self.first().wrapping_add(1), Ordering::Relaxed);
    }

    /// Connects to the first address that accepts a connection.
    ///
    /// # Errors
    ///
    /// Returns an error with the reason for each address if none does.
    pub async fn connect(&self, endpoint: Endpoint) -> Result<Channel, tonic::transport::Error> {
        endpoint.connect_with_connector(self.connector()).await
    }

    /// Returns a channel that connects on first use, and again as needed.
    #[must_use]
    pub fn connect_lazy(&self, endpoint: Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(self.connector())
    }

    fn connector(
        &self,
    ) -> impl tower::Service<Uri, Response = TokioIo<TcpStream>, Error = io::Error, Future: Send>
    + Send
    + 'static {
        let addresses = self.clone();
        tower::service_fn(move |_: Uri| {
            let addresses = addresses.clone();
            async move { addresses.dial().await.map(TokioIo::new) }
        })
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        let first = self.first();
        let mut reasons = Vec::new();
        for n in 0..self.all.len() {
            let ix = first.wrapping_add(n) % self.all.len();
            let target = &self.all[ix].target;
            match dial_all(target).await {
                Ok(stream) => {
                    self.first.store(ix, Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(error) => reasons.push(format!("{target}: {error}")),
            }
        }
        Err(io::Error::new(io::ErrorKind::ConnectionRefused, reasons.join("; ")))
    }

    fn first(&self) -> usize {
        self.first.load(Ordering::Relaxed)
    }
}

/// Tries all addresses that a name resolves to.
async fn dial_all(target: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(target).await? {
        match tokio::time::timeout(TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "no answer"),
        }
    }
    Err(last)
}

fn address(text: &str) -> Result<Address, InvalidAddress> {
    let refuse = |reason| InvalidAddress { address: text.to_owned(), reason };
    if text.starts_with("https://") {
        return Err(refuse("uses TLS, which this version does not support"));
    }
    if !text.starts_with("http://") {
        return Err(refuse("does not begin with `http://`"));
    }
    let uri: Uri = text.parse().map_err(|_| refuse("is not a URL"))?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| refuse("names no host"))?;
    let target = format!("{host}:{}", uri.port_u16().unwrap_or(80));
    Ok(Address { uri, target })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn addresses_that_cannot_work_are_refused_with_an_example() {
        let list = "http://a:1, b:2";
        for text in ["127.0.0.1:7400", "https://host:7400", "http://a b", "", "http://", list] {
            let error = Addresses::parse(text).unwrap_err().to_string();
            assert!(error.contains("http://127.0.0.1:7400"), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn the_first_address_that_answers_is_used_and_remembered() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let text = format!("http://{closed},http://{}", open.local_addr().unwrap());
        let addresses = Addresses::parse(&text).unwrap();
        assert_eq!(addresses.preferred().port_u16(), Some(closed.port()));
        let stream = addresses.dial().await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open.local_addr().unwrap());
        assert_eq!(addresses.preferred().port_u16(), Some(open.local_addr().unwrap().port()));

        addresses.rotate();
        drop((open, stream));
        let error = addresses.dial().await.unwrap_err().to_string();
        assert!(error.contains(&closed.to_string()), "{error}");
    }
}
