//! The side that accepts connections.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{info, warn};

use super::files::{self, TlsFileError};
use super::{Protocol, provider};

/// How often to check whether the files have changed, at most.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Who has to show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// Everybody.
    #[default]
    Required,
    /// Workers. The certificates of clients are verified if they show any.
    Workers,
}

/// The files of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsFiles {
    /// The certificate, with those between it and the authority.
    pub cert_file: PathBuf,
    /// The private key of the certificate.
    pub key_file: PathBuf,
    /// The certificates of the authorities of clients. Without it, no certificate is asked for.
    pub client_ca_file: Option<PathBuf>,
    /// Who has to show a certificate, if there is a `client_ca_file`.
    pub client_auth: ClientAuth,
}

impl ServerTlsFiles {
    /// A server that asks for no certificates.
    #[must_use]
    pub fn new(cert_file: PathBuf, key_file: PathBuf) -> Self {
        Self { cert_file, key_file, client_ca_file: None, client_auth: ClientAuth::default() }
    }

    fn load(&self, protocol: Protocol) -> Result<Arc<ServerConfig>, TlsFileError> {
        let identity = files::identity(&self.cert_file, &self.key_file)?;
        let failed = |error| TlsFileError::certificate(&self.cert_file, error);
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(failed)?;
        let mut config = builder
            .with_client_cert_verifier(self.verifier()?)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        config.alpn_protocols = protocol.alpn();
        // A resumed session would not notice that the files were replaced.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, TlsFileError> {
        let Some(path) = &self.client_ca_file else {
            return Ok(WebPkiClientVerifier::no_client_auth());
        };
        let roots = Arc::new(files::authorities(path)?);
        let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
        let builder = match self.client_auth {
            ClientAuth::Required => builder,
            ClientAuth::Workers => builder.allow_unauthenticated(),
        };
        builder.build().map_err(|error| TlsFileError::authorities(path, error))
    }

    fn versions(&self) -> Vec<Option<Version>> {
        let files = [Some(&self.cert_file), Some(&self.key_file), self.client_ca_file.as_ref()];
        files.into_iter().flatten().map(|path| Version::of(path)).collect()
    }
}

/// Tells a file from the one that replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    file: (u64, u64),
    len: u64,
    /// The time of the last change, also that of the owner or mode.
    changed: (i64, i64),
}

impl Version {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        let changed = (meta.ctime(), meta.ctime_nsec());
        Some(Self { file: (meta.dev(), meta.ino()), len: meta.len(), changed })
    }
}

/// The TLS settings of a server. The files are read again after they have changed.
#[derive(Debug)]
pub struct ServerTls {
    files: ServerTlsFiles,
    protocol: Protocol,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: Arc<ServerConfig>,
    /// The files that are in use.
    versions: Vec<Option<Version>>,
    /// Why newer files are not in use, if there are any.
    failure: Option<String>,
    checked_at: Instant,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// Returns an error that names the file that cannot be used.
    pub fn load(files: ServerTlsFiles, protocol: Protocol) -> Result<Self, TlsFileError> {
        let versions = files.versions();
        let config = files.load(protocol)?;
        let state =
            Mutex::new(State { config, versions, failure: None, checked_at: Instant::now() });
        Ok(Self { files, protocol, state })
    }

    /// Returns the settings for the next connection. If the files have changed but cannot be used,
    /// these are the earlier settings.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if CHECK_EVERY <= state.checked_at.elapsed() {
            state.checked_at = Instant::now();
            self.reload(&mut state);
        }
        Arc::clone(&state.config)
    }

    fn reload(&self, state: &mut State) {
        let versions = self.files.versions();
        if versions == state.versions {
            return;
        }
        match self.files.load(self.protocol) {
            Ok(config) => {
                info!(file = %self.files.cert_file.display(), "certificates read again");
                (state.config, state.versions, state.failure) = (config, versions, None);
            }
            Err(error) => {
                let failure = Some(error.to_string());
                if state.failure != failure {
                    warn!(%error, "changed certificates cannot be used; those from before stay in use");
                }
                state.failure = failure;
            }
        }
    }
}
