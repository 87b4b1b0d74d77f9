//! The connection to the coordinators: to any of them at first, then to the leader.

use std::time::Duration;

use kahn_net::Addresses;
use kahn_proto::LEADER_HEADER;
use kahn_proto::worker::sessions_client::SessionsClient;
use kahn_runtime::token::Token;
use tokio::sync::watch;
use tonic::Request;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tracing::debug;

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

    /// Connects to the leader, at an address that a coordinator has named. Without TLS only if the
    /// configured addresses are without, too.
    async fn connect_to_leader(&self, address: &str) -> Option<Channel> {
        let tls = match &self.0 {
            Kind::At(known) if known.is_secure() => Some(known.tls().clone()),
            Kind::At(_) | Kind::Over(_) => None,
        };
        let leader = Addresses::of_leader(address, tls).ok()?;
        let endpoint = tuned(Endpoint::from(leader.preferred().clone()));
        tokio::time::timeout(LEADER_TIMEOUT, leader.connect(endpoint)).await.ok()?.ok()
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
    current: watch::Sender<Current>,
    pub token: Token,
}

#[derive(Clone, Debug)]
struct Current {
    channel: Channel,
    /// Whether it leads to the leader itself, whose address is not necessarily among the known ones.
    is_direct: bool,
}

impl Link {
    pub(crate) fn new(coordinators: Coordinators, token: Token) -> Self {
        let current = Current { channel: coordinators.channel(), is_direct: false };
        Self { coordinators, current: watch::Sender::new(current), token }
    }

    pub(crate) fn client(&self) -> SessionsClient<Channel> {
        SessionsClient::new(self.current.borrow().channel.clone())
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

    /// Returns a future that completes when the channel is replaced after this call.
    pub(crate) fn replaced(&self) -> impl Future<Output = ()> + use<> {
        let mut changes = self.current.subscribe();
        // The sender is not gone while its link is used.
        async move { drop(changes.changed().await) }
    }

    /// Connects to the leader itself if a response came from it through another coordinator.
    /// Returns a link to it alone, which [`follow`](Self::follow) makes the current one.
    pub(crate) async fn find_leader(&self, response: &MetadataMap) -> Option<Self> {
        let address = response.get(LEADER_HEADER)?.to_str().ok()?;
        let channel = self.coordinators.connect_to_leader(address).await;
        if channel.is_none() {
            debug!(leader = address, "the leader is reached through another coordinator only");
        }
        Some(Self::new(channel?.into(), self.token.clone()))
    }

    /// Uses the channel of a link to the leader from now on.
    pub(crate) fn follow(&self, leader: &Self) {
        let channel = leader.current.borrow().channel.clone();
        self.current.send_replace(Current { channel, is_direct: true });
    }

    /// Leaves the coordinator, because it does not serve: the next call goes to another one.
    pub(crate) fn leave(&self) {
        if let Kind::At(addresses) = &self.coordinators.0 {
            if !self.current.borrow().is_direct {
                addresses.rotate();
            }
            let channel = self.coordinators.channel();
            self.current.send_replace(Current { channel, is_direct: false });
        }
    }
}
