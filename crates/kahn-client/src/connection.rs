//! The connection to a coordinator: URLs, message sizes, timeouts, keep-alive and the token.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kahn_net::{Addresses, ClientTls};
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::error::{Error, Reason};

/// The largest message that is received, in bytes: a page of tasks with all their outputs.
pub const MESSAGE_BYTES_IN_MAX: usize = 64 << 20;
/// The largest message that is sent, in bytes.
pub const MESSAGE_BYTES_OUT_MAX: usize = 4 << 20;

/// A coordinator that is paused or cut off is noticed within the sum of both.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(3);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
const WINDOW_BYTES: u32 = 4 << 20;
/// How long a new connection is not left again.
const FRESH_FOR: Duration = Duration::from_millis(300);

/// Timeouts of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The timeout of a call, except for submitting.
    pub call_timeout: Duration,
    /// The timeout for submitting: the whole file has to arrive, be checked and become durable.
    pub submit_timeout: Duration,
    /// How long a repeatable call is retried while the coordinator is unreachable.
    pub outage_timeout: Duration,
    /// How long [`crate::Watch`] and [`crate::Logs`] tolerate an unreachable coordinator.
    pub stream_outage_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            call_timeout: Duration::from_secs(30),
            submit_timeout: Duration::from_secs(300),
            outage_timeout: Duration::from_secs(10),
            stream_outage_timeout: Duration::from_secs(120),
        }
    }
}

/// The connection to one of the coordinators. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    current: Arc<Mutex<(Channel, Instant)>>,
    /// The coordinators to choose from; `None` if there is only this channel.
    addresses: Option<Addresses>,
}

impl Line {
    /// Opens a connection to one of the addresses in `urls`.
    pub(crate) async fn open(urls: &str, tls: ClientTls) -> Result<Self, Error> {
        let addresses = Addresses::parse(urls)
            .map_err(|error| Error::refused(Reason::BadRequest, error.to_string()))?
            .with_tls(tls);
        let channel = addresses.connect(endpoint(&addresses)).await.map_err(|error| {
            match Error::from_transport(&error) {
                Error::Unreachable { message } => Error::unreachable(format!("{urls}: {message}")),
                other => other,
            }
        })?;
        let current = Arc::new(Mutex::new((channel, Instant::now())));
        Ok(Self { current, addresses: Some(addresses) })
    }

    /// Uses an existing channel.
    pub(crate) fn over(channel: Channel) -> Self {
        Self { current: Arc::new(Mutex::new((channel, Instant::now()))), addresses: None }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.lock().0.clone()
    }

    /// Connects to another coordinator with the next call, because this one does not serve.
    ///
    /// Several calls may fail together. Only the first of them leaves.
    pub(crate) fn leave(&self) {
        let Some(addresses) = &self.addresses else { return };
        let mut current = self.lock();
        if FRESH_FOR <= current.1.elapsed() {
            addresses.rotate();
            *current = (addresses.connect_lazy(endpoint(addresses)), Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Channel, Instant)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn endpoint(addresses: &Addresses) -> Endpoint {
    Endpoint::from(addresses.preferred().clone())
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
}

/// Adds the token to each call.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    pub(crate) fn new(token: Option<&str>) -> Result<Self, Error> {
        let header = token.map(|token| {
            let header: Result<MetadataValue<Ascii>, _> = format!("Bearer {token}").parse();
            header.map(|mut header| {
                header.set_sensitive(true);
                header
            })
        });
        let malformed =
            |_| Error::refused(Reason::BadRequest, "the token contains invalid characters");
        Ok(Self(header.transpose().map_err(malformed)?))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Bearer(********)" } else { "Bearer(none)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_cannot_work_is_refused_with_an_example() {
        let error = Line::open("127.0.0.1:7400", ClientTls::default()).await.unwrap_err();
        assert!(error.refusal().is_some(), "{error}");
        assert!(error.to_string().contains("http://127.0.0.1:7400"), "{error}");
    }

    #[tokio::test]
    async fn a_closed_port_is_unreachable_and_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = Line::open(&url, ClientTls::default()).await.unwrap_err();
        assert!(error.is_unreachable() && error.to_string().contains(&url), "{error}");
    }

    #[test]
    fn a_token_is_not_shown() {
        let bearer = Bearer::new(Some("hunter2")).unwrap();
        assert!(!format!("{bearer:?}").contains("hunter2"));
        assert!(Bearer::new(Some("line\nfeed")).is_err());
    }
}
