//! The side that connects.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt as _;
use serde::{Deserialize, Serialize};

use super::files::{self, TlsFileError};
use super::{Protocol, provider};

/// How often to read a certificate and a key until they belong together, and the pause in between.
/// Whoever replaces both does so within a moment.
const READ_ATTEMPTS: usize = 5;
const READ_PAUSE: Duration = Duration::from_millis(50);

/// The files for connections to servers with TLS. They are read for each connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientTls {
    /// The certificates of the authorities that may have issued the certificate of the server.
    /// Default: the authorities that this host trusts.
    pub ca_file: Option<PathBuf>,
    /// The certificate to show if the server asks for one.
    pub cert_file: Option<PathBuf>,
    /// The private key of that certificate.
    pub key_file: Option<PathBuf>,
}

/// What is needed for one connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub config: Arc<ClientConfig>,
    pub certificate: Arc<ClientCertificate>,
}

impl ClientTls {
    /// Reads the files, for a connection over which this protocol is negotiated, if any. Blocks.
    ///
    /// # Errors
    ///
    /// Returns an error that names the file that cannot be used.
    pub fn client_config(
        &self,
        protocol: Option<Protocol>,
    ) -> Result<Arc<ClientConfig>, TlsFileError> {
        self.session(protocol).map(|session| session.config)
    }

    /// Reads the files. Blocks.
    pub(crate) fn session(&self, protocol: Option<Protocol>) -> Result<Session, TlsFileError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsFileError::new("TLS", error))?;
        let builder = match &self.ca_file {
            Some(path) => builder.with_root_certificates(files::authorities(path)?),
            None => builder.with_platform_verifier().map_err(|error| {
                let advice = "name those of the coordinators with --ca-file or tls.ca_file";
                TlsFileError::new("authorities of this host", format_args!("{error}; {advice}"))
            })?,
        };
        let certificate = Arc::new(ClientCertificate::new(self.identity()?));
        let mut config = builder.with_client_cert_resolver(Arc::clone(&certificate) as _);
        config.alpn_protocols = protocol.map(Protocol::alpn).unwrap_or_default();
        Ok(Session { config: Arc::new(config), certificate })
    }

    /// Reads the certificate and its key. They may be replaced one after the other meanwhile.
    fn identity(&self) -> Result<Option<CertifiedKey>, TlsFileError> {
        let (cert, key) = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => (cert, key),
            (None, None) => return Ok(None),
            (Some(cert), None) => {
                return Err(TlsFileError::certificate(cert, incomplete("key_file")));
            }
            (None, Some(key)) => return Err(TlsFileError::key(key, incomplete("cert_file"))),
        };
        for _ in 1..READ_ATTEMPTS {
            match files::identity(cert, key) {
                Err(error) if error.is_mismatch() => std::thread::sleep(READ_PAUSE),
                read => return read.map(Some),
            }
        }
        files::identity(cert, key).map(Some)
    }
}

fn incomplete(missing: &str) -> String {
    format!("it is of no use without {missing}")
}

/// The certificate of this side, and whether the other side has asked for it.
#[derive(Debug)]
pub(crate) struct ClientCertificate {
    certificate: Option<Arc<CertifiedKey>>,
    was_requested: AtomicBool,
}

impl ClientCertificate {
    fn new(certificate: Option<CertifiedKey>) -> Self {
        Self { certificate: certificate.map(Arc::new), was_requested: AtomicBool::new(false) }
    }

    pub(crate) fn was_requested(&self) -> bool {
        self.was_requested.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_requested.store(true, Ordering::Relaxed);
        self.certificate.clone()
    }

    fn has_certs(&self) -> bool {
        self.certificate.is_some()
    }
}
