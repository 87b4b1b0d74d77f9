//! The listener for operators: `/health`, `/ready` and `/metrics` over HTTP/1.
//!
//! It is separate from the API's listener and binds to loopback by default. On other addresses,
//! callers without the bearer token only see whether the process is alive and ready; metrics and
//! reasons require the token and are unavailable if none is configured.

mod listener;
mod readiness;
mod routes;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use kahn_net::{Acceptor, Protocol, ServerTls, ServerTlsFiles, TlsFileError};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::metrics::Metrics;
use crate::secret::Secret;
use crate::token::{Token, TokenError};

pub use readiness::Readiness;

/// The listener's address, and who may read metrics.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthSettings {
    /// Address and port; port 0 selects a free one.
    pub listen: SocketAddr,
    /// The token required for `/metrics`.
    pub metrics_token: Option<Secret>,
    /// A file, of mode 0600, with the token required for `/metrics`.
    pub metrics_token_file: Option<PathBuf>,
    /// The certificate, with those between it and the authority. TLS is off without it.
    pub cert_file: Option<PathBuf>,
    /// The private key of the certificate.
    pub key_file: Option<PathBuf>,
}

impl HealthSettings {
    /// Binds to loopback, without a token.
    #[must_use]
    pub fn on_loopback(port: u16) -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, port).into(),
            metrics_token: None,
            metrics_token_file: None,
            cert_file: None,
            key_file: None,
        }
    }

    fn tls(&self) -> Result<Option<ServerTls>, HealthError> {
        match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => {
                let files = ServerTlsFiles::new(cert.clone(), key.clone());
                Ok(Some(ServerTls::load(files, Protocol::Http1)?))
            }
            (None, None) => Ok(None),
            _ => Err(HealthError::IncompleteTls),
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
    /// The address cannot be bound.
    #[error("cannot listen for health checks on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The OS error.
        source: io::Error,
    },
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// The certificate or its key is missing.
    #[error("of health.cert_file and health.key_file, only one is set; they belong together")]
    IncompleteTls,
}

/// The running listener. Dropping it stops it immediately; [`HealthServer::stop`] stops it
/// gracefully.
#[derive(Debug)]
pub struct HealthServer {
    address: SocketAddr,
    stop: DropGuard,
    serving: JoinHandle<()>,
}

impl HealthServer {
    /// Binds the address and starts serving.
    ///
    /// # Errors
    ///
    /// Returns a [`HealthError`] if the address or the token cannot be used.
    pub async fn start(
        settings: &HealthSettings,
        readiness: Readiness,
        metrics: Metrics,
    ) -> Result<Self, HealthError> {
        let token = settings.token()?;
        let failed = |source| HealthError::Listen { address: settings.listen, source };
        let acceptor = Acceptor::bind(settings.listen, settings.tls()?).map_err(failed)?;
        let address = acceptor.local_addr().map_err(failed)?;
        let is_in_clear = !acceptor.is_secure() && !address.ip().is_loopback();
        if token.is_some() && is_in_clear {
            tracing::warn!(%address, "the token for metrics passes in clear text; set cert_file");
        }
        let router = routes::router(address.ip(), readiness, metrics, token);
        let stop = CancellationToken::new();
        let incoming = acceptor.run().map_err(failed)?;
        let serving = tokio::spawn(listener::serve(incoming, router, stop.clone()));
        tracing::info!(%address, "listening for health checks");
        Ok(Self { address, stop: stop.drop_guard(), serving })
    }

    /// Returns the bound address, with the actual port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more connections and waits briefly for pending responses.
    pub async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "health listener failed");
        }
    }
}

#[cfg(test)]
mod tests;
