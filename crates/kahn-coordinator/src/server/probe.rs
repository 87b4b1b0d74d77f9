//! Whether a coordinator makes progress.

use kahn_proto::api;
use kahn_proto::api::workers_client::WorkersClient;

use crate::role::{Role, Roles};

/// Finds out whether a coordinator makes progress.
#[derive(Clone, Debug)]
pub struct Probe(Roles);

impl Probe {
    pub(super) fn new(roles: Roles) -> Self {
        Self(roles)
    }

    /// Completes when the driver has answered a request, if this coordinator leads. A standby has no
    /// driver, and completes at once.
    pub async fn answered(&self) {
        if let Role::Leader(routes) = self.0.current() {
            // Whatever the answer is.
            drop(WorkersClient::new(routes).list_pools(api::ListPoolsRequest {}).await);
        }
    }
}
