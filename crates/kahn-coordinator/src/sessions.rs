//! The open streams of workers, by number.

use std::collections::BTreeMap;

use kahn_core::SessionId;
use kahn_proto::worker::CoordinatorMessage;
use tokio::sync::mpsc;

/// Messages that may wait for a worker that does not read. One that lags by more is cut off; it
/// comes back and is told how things stand.
pub(crate) const MESSAGES_MAX: usize = 256;

/// Where messages to one worker go.
pub(crate) type Outbound = mpsc::Sender<Result<CoordinatorMessage, tonic::Status>>;

/// The open streams. Only the driver has them.
#[derive(Debug, Default)]
pub(crate) struct Sessions(BTreeMap<SessionId, Outbound>);

impl Sessions {
    pub(crate) fn insert(&mut self, session: SessionId, outbound: Outbound) {
        self.0.insert(session, outbound);
    }

    /// Forgets a stream; the worker sees it end.
    pub(crate) fn remove(&mut self, session: SessionId) {
        self.0.remove(&session);
    }

    pub(crate) fn contains(&self, session: SessionId) -> bool {
        self.0.contains_key(&session)
    }

    /// Sends without waiting. Forgets the stream and says so when it is gone or full.
    pub(crate) fn send(&mut self, session: SessionId, message: CoordinatorMessage) -> bool {
        let Some(outbound) = self.0.get(&session) else { return true };
        if outbound.try_send(Ok(message)).is_ok() {
            return true;
        }
        self.remove(session);
        false
    }
}
