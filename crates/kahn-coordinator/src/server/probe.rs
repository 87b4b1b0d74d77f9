//! Whether a coordinator makes progress.

use crate::role::{Role, Roles};

/// Finds out whether a coordinator makes progress.
#[derive(Clone, Debug)]
pub struct Probe(Roles);

impl Probe {
    pub(crate) fn new(roles: Roles) -> Self {
        Self(roles)
    }

    /// Completes when the driver has answered, if this coordinator leads. Does not wait for the store:
    /// another start would not make that faster. A standby has no driver, and completes at once.
    pub async fn answered(&self) {
        if let Role::Leader { driver, .. } = self.0.current() {
            // An error means that the leadership has ended.
            drop(driver.peek(|_| ()).await);
        }
    }
}
