//! The listener for operators: `/health`, `/ready` and `/metrics` over HTTP/1.
//!
//! It is apart from the API's listener and on loopback by default. Off loopback it tells strangers
//! only whether the process lives and is ready: metrics and reasons need the bearer token, and
//! without a configured token nobody gets them.

mod listener;
mod readiness;
mod routes;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::metrics::Metrics;
use crate::secret::Secret;
use crate::token::{Token, TokenError};

pub use readiness::Readiness;

/// Where the listener is and who may read metrics.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthSettings {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The token that opens `/metrics`.
    pub metrics_token: Option<Secret>,
    /// A file, of mode 0600, with the token that opens `/metrics`.
    pub metrics_token_file: Option<PathBuf>,
}

impl HealthSettings {
    /// On loopback, without a token.
    #[must_use]
    pub fn on_loopback(port: u16) -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, port).into(),
            metrics_token: None,
            metrics_token_file: None,
        }
    }

    fn token(&self) -> Result<Option<Token>, TokenError> {
        let from_file = |path: &PathBuf| Token::from_file(Path::new(path));
        match (&self.metrics_token, &self.metrics_token_file) {
            (Some(secret), _) => Token::from_secret(secret, "metrics_token").map(Some),
            (None, Some(path)) => from_file(path).map(Some),
            (None, None) => Ok(None),
        }
    }
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self::on_loopback(0)
    }
}

/// Why the listener could not start.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The address cannot be used.
    #[error("cannot listen for health checks on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// The running listener. It ends when this is dropped, and in order with [`HealthServer::stop`].
#[derive(Debug)]
pub struct HealthServer {
    address: SocketAddr,
    stop: DropGuard,
    serving: JoinHandle<()>,
}

impl HealthServer {
    /// Binds and begins to answer.
    ///
    /// # Errors
    ///
    /// Returns a [`HealthError`] when the address or the token cannot be used.
    pub async fn start(
        settings: &HealthSettings,
        readiness: Readiness,
        metrics: Metrics,
    ) -> Result<Self, HealthError> {
        let token = settings.token()?;
        let failed = |source| HealthError::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let router = routes::router(address.ip(), readiness, metrics, token);
        let stop = CancellationToken::new();
        let serving = tokio::spawn(listener::serve(listener, router, stop.clone()));
        tracing::info!(%address, "listening for health checks");
        Ok(Self { address, stop: stop.drop_guard(), serving })
    }

    /// The address that is bound, with the port that was free.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections and waits, briefly, for the answers under way.
    pub async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "health listener failed");
        }
    }
}

#[cfg(test)]
mod tests;
