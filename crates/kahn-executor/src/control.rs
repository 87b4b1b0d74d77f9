//! Lets the worker stop an attempt, and lets the executor report that it started.

use std::fmt;
use std::time::Duration;

use kahn_model::CauseKind;
use tokio::sync::watch;

/// The worker's end, which requests that the attempt stop.
///
/// Dropping it requests nothing.
#[derive(Clone, Debug)]
pub struct Stopper {
    reason: watch::Sender<Option<CauseKind>>,
}

impl Stopper {
    /// Requests that the attempt stop. Only the first reason counts.
    pub fn stop(&self, reason: CauseKind) {
        self.reason.send_if_modified(|current| {
            let is_first = current.is_none();
            current.get_or_insert(reason);
            is_first
        });
    }
}

/// The executor's end, which receives stop requests and reports the start.
pub struct Control {
    reason: watch::Receiver<Option<CauseKind>>,
    on_started: Option<Box<dyn FnOnce() + Send>>,
}

/// Creates both ends for one attempt. `on_started` is called at most once, from the executor's
/// task, and must not block.
pub fn control(on_started: impl FnOnce() + Send + 'static) -> (Stopper, Control) {
    let (sender, receiver) = watch::channel(None);
    (
        Stopper { reason: sender },
        Control { reason: receiver, on_started: Some(Box::new(on_started)) },
    )
}

impl Control {
    /// Reports that the work has started. Later calls have no effect.
    pub fn started(&mut self) {
        if let Some(on_started) = self.on_started.take() {
            on_started();
        }
    }

    /// Returns the reason to stop, if a stop was requested.
    #[must_use]
    pub fn stop_reason(&self) -> Option<CauseKind> {
        *self.reason.borrow()
    }

    /// Waits until a stop is requested and returns the reason. May never return.
    ///
    /// Cancellation safe.
    pub async fn stop_requested(&mut self) -> CauseKind {
        // An error means that the worker's end was dropped.
        let reason = self.reason.wait_for(Option::is_some).await.ok().and_then(|reason| *reason);
        match reason {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    /// Like [`Control::stop_requested`], but waits for at most `run_timeout` from this call, and
    /// then returns [`CauseKind::RunTimeout`].
    pub async fn stop_or_timeout(&mut self, run_timeout: Option<Duration>) -> CauseKind {
        let Some(run_timeout) = run_timeout else {
            return self.stop_requested().await;
        };
        tokio::select! {
            biased;
            reason = self.stop_requested() => reason,
            () = tokio::time::sleep(run_timeout) => CauseKind::RunTimeout,
        }
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("reason", &self.stop_reason())
            .field("is_started", &self.on_started.is_none())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_first_reason_counts() {
        let (stopper, mut control) = control(|| ());
        assert_eq!(control.stop_reason(), None);
        stopper.stop(CauseKind::Preempted);
        stopper.stop(CauseKind::Cancelled);
        assert_eq!(control.stop_requested().await, CauseKind::Preempted);
        assert_eq!(control.stop_requested().await, CauseKind::Preempted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_stopper_asks_for_nothing() {
        let (stopper, mut control) = control(|| ());
        drop(stopper);
        let reason = control.stop_or_timeout(Some(Duration::from_secs(60))).await;
        assert_eq!(reason, CauseKind::RunTimeout);
    }
}
