//! The addresses of the coordinators of a cluster, and connections to whichever of them answers.
//!
//! Any coordinator will do, because those that do not lead forward requests to the leader.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::dial::{self, DialError, Security};
use crate::stream::Stream;
use crate::tls::Protocol;
use crate::tls::client::ClientTls;
use crate::tls::files::TlsFileError;

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
    tls: Arc<ClientTls>,
    /// The index of the address to try first.
    first: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Address {
    uri: Uri,
    /// A host and a port, such as `127.0.0.1:7400` or `[::1]:7400`.
    target: String,
    /// The name that a certificate must have; `None` without TLS.
    server: Option<ServerName<'static>>,
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
        if let Some(other) = all.iter().find(|one| one.is_secure() != all[0].is_secure()) {
            let address = other.uri.to_string();
            let reason = match all[0].is_secure() {
                true => "is without TLS, unlike the first one",
                false => "is with TLS, unlike the first one",
            };
            return Err(InvalidAddress { address, reason });
        }
        Ok(Self { all, tls: Arc::default(), first: Arc::default() })
    }

    /// Parses the address of the leader, as a coordinator has named it. `tls` are the files of this
    /// side, if it uses TLS: the address then has to be one with TLS, too.
    ///
    /// # Errors
    ///
    /// Returns an error if the address cannot be used, or if only one of both sides uses TLS.
    pub fn of_leader(text: &str, tls: Option<ClientTls>) -> Result<Self, InvalidAddress> {
        let leader = Self::parse(text)?;
        let refuse = |reason| InvalidAddress { address: text.to_owned(), reason };
        match tls {
            Some(tls) if leader.is_secure() => Ok(leader.with_tls(tls)),
            None if !leader.is_secure() => Ok(leader),
            Some(_) => Err(refuse("is without TLS, which is required here")),
            None => Err(refuse("requires TLS, for which nothing is configured here")),
        }
    }

    /// Reads the files for TLS, if they are needed, to find out whether they can be used.
    ///
    /// # Errors
    ///
    /// Returns an error that names the file that cannot be used.
    pub fn check_files(&self) -> Result<(), TlsFileError> {
        let read = || self.tls.client_config(Some(Protocol::Http2)).map(drop);
        if self.is_secure() { read() } else { Ok(()) }
    }

    /// Returns the addresses with these files for TLS.
    #[must_use]
    pub fn with_tls(self, tls: ClientTls) -> Self {
        Self { tls: Arc::new(tls), ..self }
    }

    /// Returns the files for TLS.
    #[must_use]
    pub fn tls(&self) -> &ClientTls {
        &self.tls
    }

    /// Returns whether connections use TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.all[0].is_secure()
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
    ) -> impl tower::Service<Uri, Response = TokioIo<Stream>, Error = DialError, Future: Send>
    + Send
    + 'static {
        let addresses = self.clone();
        tower::service_fn(move |_: Uri| {
            let addresses = addresses.clone();
            async move { addresses.dial().await.map(TokioIo::new) }
        })
    }

    async fn dial(&self) -> Result<Stream, DialError> {
        let first = self.first();
        let mut failures = Vec::new();
        for n in 0..self.all.len() {
            let ix = first.wrapping_add(n) % self.all.len();
            let Address { target, server, .. } = &self.all[ix];
            let security =
                server.clone().map(|server| Security { files: Arc::clone(&self.tls), server });
            match dial::dial(target, security).await {
                Ok(stream) => {
                    self.first.store(ix, Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(failure) => failures.push(failure),
            }
        }
        Err(DialError(failures))
    }

    fn first(&self) -> usize {
        self.first.load(Ordering::Relaxed)
    }
}

impl Address {
    fn is_secure(&self) -> bool {
        self.server.is_some()
    }
}

fn address(text: &str) -> Result<Address, InvalidAddress> {
    let refuse = |reason| InvalidAddress { address: text.to_owned(), reason };
    let is_secure = text.starts_with("https://");
    if !is_secure && !text.starts_with("http://") {
        return Err(refuse("begins neither with `http://` nor with `https://`"));
    }
    let uri: Uri = text.parse().map_err(|_| refuse("is not a URL"))?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| refuse("names no host"))?;
    let server = match is_secure {
        // An IPv6 address is in brackets in a URL, and without them in a certificate.
        true => Some(
            ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
                .map_err(|_| refuse("has a host that no certificate can name"))?,
        ),
        false => None,
    };
    let usual_port = if is_secure { 443 } else { 80 };
    let target = format!("{host}:{}", uri.port_u16().unwrap_or(usual_port));
    Ok(Address { uri, target, server })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tonic::transport::server::Connected as _;

    use super::*;

    #[test]
    fn addresses_that_cannot_work_are_refused_with_an_example() {
        let list = "http://a:1, b:2";
        let mixed = "http://a:1,https://b:2";
        for text in ["127.0.0.1:7400", "https://", "http://a b", "", "http://", list, mixed] {
            let error = Addresses::parse(text).unwrap_err().to_string();
            assert!(error.contains("http://127.0.0.1:7400"), "{text}: {error}");
        }
    }

    #[test]
    fn a_leader_is_followed_only_to_an_address_with_as_much_protection() {
        let (plain, secure) = ("http://a:1", "https://a:1");
        let of_leader = |text, tls| Addresses::of_leader(text, tls).is_ok();
        assert!(of_leader(secure, Some(ClientTls::default())) && of_leader(plain, None));
        assert!(!of_leader(plain, Some(ClientTls::default())) && !of_leader(secure, None));
    }

    #[tokio::test]
    async fn the_first_address_that_answers_is_used_and_remembered() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let text = format!("http://{closed},http://{}", open.local_addr().unwrap());
        let addresses = Addresses::parse(&text).unwrap();
        assert_eq!(addresses.preferred().port_u16(), Some(closed.port()));
        let stream = addresses.dial().await.unwrap();
        assert_eq!(stream.connect_info().address.unwrap(), open.local_addr().unwrap());
        assert_eq!(addresses.preferred().port_u16(), Some(open.local_addr().unwrap().port()));

        addresses.rotate();
        drop((open, stream));
        let error = addresses.dial().await.unwrap_err().to_string();
        assert!(error.contains(&closed.to_string()), "{error}");
    }
}
