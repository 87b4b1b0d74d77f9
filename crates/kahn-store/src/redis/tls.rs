//! TLS connections to Redis, and advice for each way in which they fail.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error as TlsError, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::StoreError;
use crate::redis::config::RedisTls;

/// Checks that a certificate has a key and the other way round.
pub(super) fn check(files: &RedisTls) -> Result<(), StoreError> {
    let (given, missing) = match (&files.cert_file, &files.key_file) {
        (Some(_), None) => ("cert_file", "key_file"),
        (None, Some(_)) => ("key_file", "cert_file"),
        _ => return Ok(()),
    };
    Err(StoreError::BadConfig(format!("{given} of the store needs {missing}: set both or neither")))
}

/// Makes a TLS connection over `stream`. The certificate of the server must be for `host`.
pub(super) async fn connect(
    files: &RedisTls,
    host: &str,
    server: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, StoreError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        StoreError::BadConfig(format!("{host:?} is neither a host name nor an IP address"))
    })?;
    // Read each time, so that certificates can be replaced while the coordinator runs.
    let connector = TlsConnector::from(Arc::new(client_config(files).await?));
    connector.connect(name, stream).await.map_err(|source| failed(server, source))
}

async fn client_config(files: &RedisTls) -> Result<ClientConfig, StoreError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::BadConfig(format!("TLS: {error}")))?;
    let config = match &files.ca_file {
        Some(path) => config.with_root_certificates(roots(path).await?),
        None => config.with_platform_verifier().map_err(|error| {
            StoreError::BadConfig(format!(
                "the certificate authorities of this host cannot be used: {error}; set ca_file"
            ))
        })?,
    };
    match (&files.cert_file, &files.key_file) {
        (Some(cert), Some(key)) => {
            let (certs, key_der) = (certificates(cert).await?, private_key(key).await?);
            config.with_client_auth_cert(certs, key_der).map_err(|error| {
                let (cert, key) = (cert.display(), key.display());
                StoreError::BadConfig(format!("certificate {cert} with key {key}: {error}"))
            })
        }
        _ => Ok(config.with_no_client_auth()),
    }
}

async fn roots(path: &Path) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path).await? {
        roots.add(certificate).map_err(|error| bad_pem(path, &error))?;
    }
    Ok(roots)
}

async fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let pem = read(path).await?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| bad_pem(path, &error))?;
    if certificates.is_empty() {
        return Err(bad_pem(path, &"it contains no certificate"));
    }
    Ok(certificates)
}

async fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, StoreError> {
    let pem = read(path).await?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| bad_pem(path, &error))
}

fn bad_pem(path: &Path, problem: &dyn std::fmt::Display) -> StoreError {
    StoreError::BadConfig(format!("file {} for TLS: {problem}", path.display()))
}

async fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    let path: PathBuf = path.to_owned();
    tokio::fs::read(&path).await.map_err(|source| {
        StoreError::io(format!("read {}, for TLS with redis", path.display()), source)
    })
}

/// Describes a connection that failed during the handshake.
pub(super) fn failed(server: &str, source: io::Error) -> StoreError {
    let tls = source.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    let advice =
        tls.map_or("the port may be one without TLS, for which the scheme is redis", advice);
    StoreError::Tls { server: server.to_owned(), advice, source }
}

/// Describes a connection that failed after the handshake, if TLS was the reason. In TLS 1.3, a
/// server judges the certificate of its client only then.
pub(super) fn failed_later(server: &str, error: &::redis::RedisError) -> Option<StoreError> {
    // The client library shares its inner error.
    let shared = std::error::Error::source(error)?;
    let shared = shared.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?;
    let tls = shared.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<TlsError>()?;
    Some(failed(server, io::Error::other(tls.clone())))
}

/// Returns what to do about an error.
fn advice(error: &TlsError) -> &'static str {
    match error {
        TlsError::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "ca_file must contain the authority that signed the certificate of redis",
        TlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the certificate of redis has expired: renew it, or correct the clock of this host",
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "the certificate of redis must name the host to which we connect; sentinels and \
             clusters may announce other names than the URL"
        }
        TlsError::InvalidCertificate(_) => "the certificate of redis cannot be accepted",
        TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
            "redis requires a client certificate: set cert_file and key_file"
        }
        TlsError::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::HandshakeFailure,
        ) => "redis refuses our certificate: its own CA must have signed cert_file, and recently",
        TlsError::InvalidMessage(_) => {
            "the port may be one without TLS, for which the scheme is redis"
        }
        _ => "see the log of redis for its view",
    }
}
