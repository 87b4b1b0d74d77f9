//! Shutdown requests: first a drain, then an immediate stop.
//!
//! The first SIGTERM or SIGINT requests a drain, the second an immediate stop. The component that
//! waits for the request decides what a drain means.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The requested kind of shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No request was made.
    Running,
    /// Finish current work, accept nothing new.
    Draining,
    /// Stop immediately.
    Immediate,
}

/// A shared shutdown request. Clones share the same state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    immediate: CancellationToken,
}

impl Shutdown {
    /// Creates a request that only code can make, for tests and embedded components.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a request made by SIGTERM and SIGINT, which no longer terminate the process.
    ///
    /// # Errors
    ///
    /// Returns an error if the signal handlers cannot be installed.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let heard = shutdown.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                let phase = heard.escalate();
                tracing::info!(signal = name, ?phase, "shutdown requested");
            }
        });
        Ok(shutdown)
    }

    /// Handles a signal: requests a drain, or an immediate stop if already draining.
    pub fn escalate(&self) -> Phase {
        match self.phase() {
            Phase::Running => self.request_drain(),
            Phase::Draining | Phase::Immediate => self.request_immediate(),
        }
        self.phase()
    }

    /// Requests a drain: finish current work, accept nothing new.
    pub fn request_drain(&self) {
        self.drain.cancel();
    }

    /// Requests an immediate stop; this also wakes waiters for a drain.
    pub fn request_immediate(&self) {
        self.immediate.cancel();
        self.drain.cancel();
    }

    /// Returns the requested kind of shutdown.
    #[must_use]
    pub fn phase(&self) -> Phase {
        if self.immediate.is_cancelled() {
            Phase::Immediate
        } else if self.drain.is_cancelled() {
            Phase::Draining
        } else {
            Phase::Running
        }
    }

    /// Returns whether any shutdown was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Waits until a drain or an immediate stop is requested.
    pub async fn drain_requested(&self) {
        self.drain.cancelled().await;
    }

    /// Waits until an immediate stop is requested.
    pub async fn immediate_requested(&self) {
        self.immediate.cancelled().await;
    }

    /// Returns the token behind [`Shutdown::drain_requested`], for APIs that take one.
    #[must_use]
    pub fn drain_token(&self) -> CancellationToken {
        self.drain.clone()
    }

    /// Returns the token behind [`Shutdown::immediate_requested`], for APIs that take one.
    #[must_use]
    pub fn immediate_token(&self) -> CancellationToken {
        self.immediate.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn first_request_drains_and_second_is_immediate() {
        let shutdown = Shutdown::new();
        assert_eq!(shutdown.phase(), Phase::Running);
        assert_eq!(shutdown.escalate(), Phase::Draining);
        shutdown.drain_requested().await;
        assert!(!shutdown.immediate_token().is_cancelled());
        assert_eq!(shutdown.escalate(), Phase::Immediate);
        shutdown.immediate_requested().await;
    }

    #[tokio::test]
    async fn an_immediate_request_wakes_waiters_for_a_drain() {
        let shutdown = Shutdown::new();
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.drain_requested().await }
        });
        shutdown.request_immediate();
        waiting.await.unwrap();
        assert!(shutdown.is_requested());
    }

    #[test]
    fn a_drain_request_never_revokes_an_immediate_one() {
        let shutdown = Shutdown::new();
        shutdown.request_immediate();
        shutdown.request_drain();
        assert_eq!(shutdown.phase(), Phase::Immediate);
    }
}
