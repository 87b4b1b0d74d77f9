//! How a process is asked to end: first gently, then at once.
//!
//! The first SIGTERM or SIGINT asks for a drain, the second for an immediate stop. What a drain
//! means is up to whoever waits for it.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing was asked for.
    Running,
    /// Finish what is held, take nothing new.
    Draining,
    /// Stop now.
    Immediate,
}

/// A shared request to end. Clones observe and make the same request.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    immediate: CancellationToken,
}

impl Shutdown {
    /// A request that only code can make: for tests and for processes inside a process.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A request that SIGTERM and SIGINT make, from now on instead of ending the process.
    ///
    /// # Errors
    ///
    /// Fails when the signal handlers cannot be installed.
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

    /// What a signal does: asks for a drain, or for an immediate stop when draining already.
    pub fn escalate(&self) -> Phase {
        match self.phase() {
            Phase::Running => self.request_drain(),
            Phase::Draining | Phase::Immediate => self.request_immediate(),
        }
        self.phase()
    }

    /// Asks to finish what is held and to take nothing new.
    pub fn request_drain(&self) {
        self.drain.cancel();
    }

    /// Asks to stop now; whoever waits for a drain is woken too.
    pub fn request_immediate(&self) {
        self.immediate.cancel();
        self.drain.cancel();
    }

    /// How far the end has come.
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

    /// Whether any end, gentle or not, was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Returns when a drain or an immediate stop was asked for.
    pub async fn drain_requested(&self) {
        self.drain.cancelled().await;
    }

    /// Returns when an immediate stop was asked for.
    pub async fn immediate_requested(&self) {
        self.immediate.cancelled().await;
    }

    /// The token behind [`Shutdown::drain_requested`], for APIs that take one.
    #[must_use]
    pub fn drain_token(&self) -> CancellationToken {
        self.drain.clone()
    }

    /// The token behind [`Shutdown::immediate_requested`], for APIs that take one.
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
    async fn an_immediate_request_wakes_who_waits_for_a_drain() {
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
    fn a_drain_request_never_takes_back_an_immediate_one() {
        let shutdown = Shutdown::new();
        shutdown.request_immediate();
        shutdown.request_drain();
        assert_eq!(shutdown.phase(), Phase::Immediate);
    }
}
