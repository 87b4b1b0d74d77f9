//! The open streams of workers, by session.

use std::collections::BTreeMap;

use kahn_core::SessionId;
use kahn_proto::worker::CoordinatorMessage;
use tokio::sync::mpsc;

/// Maximum number of messages that wait for a slow worker. A worker that falls further behind is
/// disconnected; it reconnects and is sent the current state.
pub(crate) const MESSAGES_MAX: usize = 256;

/// Sends messages to one worker.
pub(crate) type Outbound = mpsc::Sender<Result<CoordinatorMessage, tonic::Status>>;

/// The open streams. Used only by the driver.
#[derive(Debug, Default)]
pub(crate) struct Sessions(BTreeMap<SessionId, Outbound>);

impl Sessions {
    pub(crate) fn insert(&mut self, session: SessionId, outbound: Outbound) {
        self.0.insert(session, outbound);
    }

    /// Removes a session, which ends its stream.
    pub(crate) fn remove(&mut self, session: SessionId) {
        self.0.remove(&session);
    }

    pub(crate) fn contains(&self, session: SessionId) -> bool {
        self.0.contains_key(&session)
    }

    /// Sends without waiting. If the stream is closed or full, removes the session and returns
    /// false.
    pub(crate) fn send(&mut self, session: SessionId, message: CoordinatorMessage) -> bool {
        let Some(outbound) = self.0.get(&session) else { return true };
        if outbound.try_send(Ok(message)).is_ok() {
            return true;
        }
        self.remove(session);
        false
    }
}
