//! The role of this coordinator, as its server sees it.

use std::time::Duration;

use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::Channel;

/// Another coordinator that can be reached.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its URL.
    pub address: String,
    /// The connection to it.
    pub channel: Channel,
}

/// What is done with requests.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// They wait for the leader to be known.
    Waiting,
    /// They are served here.
    Leader(Routes),
    /// They are forwarded.
    Standby(Peer),
    /// They are refused.
    Stopping,
}

/// The sender of roles.
#[derive(Clone, Debug)]
pub(crate) struct Roles(watch::Sender<Role>);

impl Roles {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Role::Waiting))
    }

    pub(crate) fn set(&self, role: Role) {
        self.0.send_replace(role);
    }

    /// Returns the address that requests are forwarded to, if they are.
    pub(crate) fn peer(&self) -> Option<String> {
        match &*self.0.borrow() {
            Role::Standby(peer) => Some(peer.address.clone()),
            Role::Waiting | Role::Leader(_) | Role::Stopping => None,
        }
    }

    /// Forwards nothing more to a peer that has failed.
    pub(crate) fn forget(&self, peer: &Peer) {
        self.0.send_if_modified(|role| {
            let is_same = matches!(role, Role::Standby(known) if known.address == peer.address);
            if is_same {
                *role = Role::Waiting;
            }
            is_same
        });
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
