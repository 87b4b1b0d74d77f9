//! TLS connections to Redis, and advice for each way in which they fail.

use std::io;
use std::sync::Arc;

use kahn_net::ClientTls;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error as TlsError};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::StoreError;

/// Makes a TLS connection over `stream`. The certificate of the server must be for `host`.
pub(super) async fn connect(
    files: &ClientTls,
    host: &str,
    server: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, StoreError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        StoreError::BadConfig(format!("{host:?} is neither a host name nor an IP address"))
    })?;
    // Read each time, so that certificates can be replaced while the coordinator runs.
    let connector = TlsConnector::from(client_config(files).await?);
    connector.connect(name, stream).await.map_err(|source| failed(server, source))
}

/// Reads the files, without blocking the runtime.
async fn client_config(files: &ClientTls) -> Result<Arc<ClientConfig>, StoreError> {
    let files = files.clone();
    let reading = tokio::task::spawn_blocking(move || files.client_config(None)).await;
    let unusable = |error: &dyn std::fmt::Display| StoreError::BadConfig(format!("store: {error}"));
    reading.map_err(|error| unusable(&error))?.map_err(|error| unusable(&error))
}

/// Describes a connection that failed during the handshake.
pub(super) fn failed(server: &str, source: io::Error) -> StoreError {
    let Some(tls) = source.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
        // It may just be starting or stopping.
        let context = format!(
            "TLS with redis at {server} (a port without TLS needs the scheme redis, not rediss)"
        );
        return StoreError::io(context, source);
    };
    let advice = advice(tls);
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
