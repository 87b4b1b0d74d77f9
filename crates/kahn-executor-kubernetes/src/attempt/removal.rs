//! Removes the pod of an attempt, and waits until nothing of it runs.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::Attempt;
use crate::state::{End, Stage, stage};
use crate::watch::Seen;

/// How much longer than its grace a pod may take to be removed before its node is taken for lost.
const NODE_MARGIN: Duration = Duration::from_secs(60);
/// How long to wait until a pod has vanished whose container is dead already.
const VANISH: Duration = Duration::from_secs(10);

impl Attempt<'_> {
    /// Deletes the pod, and waits until its container is dead. Returns how it ended.
    pub(super) async fn remove(&mut self) -> Option<End> {
        let grace = self.assignment.timeouts.grace.unwrap_or(self.host.owner.grace);
        self.host.requests.remove(self.name, grace).await;
        let mut overdue_at = Instant::now() + grace + NODE_MARGIN;
        loop {
            let seen = self.registered.seen();
            match &seen {
                Seen::Removed(pod) => return end_of(pod),
                Seen::Present(pod) => {
                    if let Some(end) = end_of(pod) {
                        return Some(end);
                    }
                }
                Seen::Missing if self.host.requests.get(self.name).await.is_none() => return None,
                // Its creation was never seen by the watch.
                Seen::Nothing if self.host.requests.get(self.name).await.is_none() => return None,
                Seen::Missing | Seen::Nothing => {}
            }
            tokio::select! {
                () = self.registered.changed() => {}
                () = tokio::time::sleep_until(overdue_at) => {
                    if self.is_given_up().await {
                        return None;
                    }
                    overdue_at = Instant::now() + NODE_MARGIN;
                }
            }
        }
    }

    /// Handles a pod whose node does not confirm its end. Returns whether it is given up.
    async fn is_given_up(&self) -> bool {
        let Some(pod) = self.host.requests.get(self.name).await else { return true };
        let is_forced = self.host.settings.force_delete;
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("none");
        tracing::warn!(
            pod = self.name,
            node,
            is_forced,
            "a deleted pod has not ended; its node may be lost"
        );
        if is_forced {
            self.host.requests.remove(self.name, Duration::ZERO).await;
        }
        is_forced
    }

    /// Removes what is left of a pod whose container is dead.
    pub(super) async fn vanish(&mut self) {
        if matches!(self.registered.seen(), Seen::Removed(_)) {
            return;
        }
        self.host.requests.remove(self.name, Duration::ZERO).await;
        let vanished = async {
            while !matches!(self.registered.seen(), Seen::Removed(_) | Seen::Missing) {
                self.registered.changed().await;
            }
        };
        // Nothing of it runs any more. If the API server fails now, it is removed as a stray.
        drop(tokio::time::timeout(VANISH, vanished).await);
    }
}

fn end_of(pod: &Pod) -> Option<End> {
    match stage(pod) {
        Stage::Ended(end) => Some(end),
        _ => None,
    }
}
