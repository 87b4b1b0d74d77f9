//! The role of this coordinator, as its server sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel;

use crate::inbox::Handle;

/// The leader, as a standby reaches it. Clones share the connections.
#[derive(Clone, Debug)]
pub(crate) struct Peer(Arc<PeerParts>);

#[derive(Debug)]
struct PeerParts {
    address: String,
    channels: Vec<Channel>,
    next: AtomicUsize,
    replaced: CancellationToken,
}

impl Peer {
    /// Creates a peer with at least one channel to it. `replaced` is cancelled when it leads no
    /// more.
    pub(crate) fn new(address: &str, channels: Vec<Channel>, replaced: CancellationToken) -> Self {
        let next = AtomicUsize::new(0);
        Self(Arc::new(PeerParts { address: address.to_owned(), channels, next, replaced }))
    }

    /// Returns its URL.
    pub(crate) fn address(&self) -> &str {
        &self.0.address
    }

    /// Returns the channel for the next request.
    pub(crate) fn channel(&self) -> Channel {
        let next = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.channels[next % self.0.channels.len()].clone()
    }

    /// Returns a token that is cancelled when this peer leads no more.
    pub(crate) fn replaced(&self) -> CancellationToken {
        self.0.replaced.clone()
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What is done with requests.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// They wait for the leader to be known.
    Waiting,
    /// They are served here, by a driver.
    Leader { routes: Routes, driver: Handle },
    /// They are forwarded.
    Standby(Peer),
    /// They are refused.
    Stopping,
}

/// The role, for the server to read and for the [`Lifecycle`](crate::server) to set.
#[derive(Clone, Debug)]
pub(crate) struct Roles(watch::Sender<Role>);

impl Roles {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Role::Waiting))
    }

    pub(crate) fn set(&self, role: Role) {
        self.0.send_replace(role);
    }

    /// Returns whether requests are forwarded to this address.
    pub(crate) fn is_forwarding_to(&self, address: &str) -> bool {
        matches!(&*self.0.borrow(), Role::Standby(peer) if peer.address() == address)
    }

    /// Forwards no more requests to a peer that has failed. What is under way continues if it can.
    pub(crate) fn forget(&self, failed: &Peer) {
        self.0.send_if_modified(|role| {
            let is_same = matches!(role, Role::Standby(peer) if peer.is(failed));
            if is_same {
                *role = Role::Waiting;
            }
            is_same
        });
    }

    /// Returns the role if it is known.
    pub(crate) fn current(&self) -> Role {
        self.0.borrow().clone()
    }

    /// Returns the role, waiting for at most `wait_max` until it is known.
    pub(crate) async fn known(&self, wait_max: Duration) -> Role {
        let mut changes = self.0.subscribe();
        let is_known = |role: &Role| !matches!(role, Role::Waiting);
        let known = tokio::time::timeout(wait_max, changes.wait_for(is_known)).await;
        match known {
            Ok(Ok(role)) => role.clone(),
            // Not known in time, or the sender is gone.
            _ => Role::Waiting,
        }
    }
}
