//! The connection to the coordinators: to any of them at first, then to the leader.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kahn_proto::worker::sessions_client::SessionsClient;
use kahn_proto::{Addresses, LEADER_HEADER};
use kahn_runtime::token::Token;
use tonic::Request;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tracing::{debug, info};

/// Maximum size of a message in either direction, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// How long to wait for a direct connection to the leader. Without one, everything is forwarded.
const LEADER_TIMEOUT: Duration = Duration::from_millis(500);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(5);
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// How a worker reaches the coordinators of its cluster.
#[derive(Clone, Debug)]
pub struct Coordinators(Kind);

#[derive(Clone, Debug)]
enum Kind {
    At(Addresses),
    Over(Channel),
}

impl Coordinators {
    /// Reaches them at these addresses.
    #[must_use]
    pub fn at(addresses: Addresses) -> Self {
        Self(Kind::At(addresses))
    }

    /// Returns a channel that connects on first use.
    fn channel(&self) -> Channel {
        match &self.0 {
            Kind::At(addresses) => {
                let endpoint = Endpoint::from(addresses.preferred().clone());
                addresses.connect_lazy(tuned(endpoint))
            }
            Kind::Over(channel) => channel.clone(),
        }
    }
}

impl From<Channel> for Coordinators {
    /// Reaches a single coordinator over this channel.
    fn from(channel: Channel) -> Self {
        Self(Kind::Over(channel))
    }
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_EVERY)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
}

/// The current channel, and the token for it. Clones share the channel.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    coordinators: Coordinators,
    current: Arc<Mutex<Channel>>,
    pub token: Token,
}

impl Link {
    pub(crate) fn new(coordinators: Coordinators, token: Token) -> Self {
        let current = Arc::new(Mutex::new(coordinators.channel()));
        Self { coordinators, current, token }
    }

    pub(crate) fn client(&self) -> SessionsClient<Channel> {
        let channel = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SessionsClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Creates a request with the token in its metadata.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Ok(mut value) =
            self.token.to_header().expose().parse::<tonic::metadata::MetadataValue<_>>()
        {
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    /// Connects to the leader itself if a response came from it through another coordinator.
    /// Returns whether the next call goes to the leader.
    pub(crate) async fn find_leader(&self, response: &MetadataMap) -> bool {
        let address = response.get(LEADER_HEADER).and_then(|value| value.to_str().ok());
        let Some(address) = address else { return false };
        match connect(address).await {
            Some(channel) => {
                info!(leader = address, "connected to the leader");
                self.set(channel);
                true
            }
            None => {
                debug!(leader = address, "the leader is reached through another coordinator only");
                false
            }
        }
    }

    /// Makes the next call go to any coordinator, because a stream has ended.
    pub(crate) fn reset(&self) {
        self.set(self.coordinators.channel());
    }

    /// Makes the next call go to another coordinator, because this one does not respond.
    pub(crate) fn avoid(&self) {
        if let Kind::At(addresses) = &self.coordinators.0 {
            addresses.rotate();
        }
        self.reset();
    }

    fn set(&self, channel: Channel) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = channel;
    }
}

async fn connect(address: &str) -> Option<Channel> {
    let endpoint = tuned(Endpoint::from_shared(address.to_owned()).ok()?);
    tokio::time::timeout(LEADER_TIMEOUT, endpoint.connect()).await.ok()?.ok()
}
