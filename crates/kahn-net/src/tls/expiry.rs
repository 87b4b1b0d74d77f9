//! When certificates expire.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::files::{self, TlsFileError};

/// Returns when the first of the certificates in a file expires: the certificate itself, or one of
/// those between it and the authority. Blocks.
///
/// # Errors
///
/// Returns an error if the file cannot be read, or has no X.509 certificate.
pub fn certificate_expiry(cert_file: &Path) -> Result<SystemTime, TlsFileError> {
    let failed = |reason: String| TlsFileError::certificate(cert_file, reason);
    let mut earliest = None;
    for certificate in files::certificates(cert_file).map_err(failed)? {
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|error| failed(format!("it is not an X.509 certificate: {error}")))?;
        let expiry = since_epoch(parsed.validity().not_after.timestamp());
        earliest = Some(earliest.map_or(expiry, |earliest: SystemTime| earliest.min(expiry)));
    }
    earliest.ok_or_else(|| failed("there is no certificate in it".to_owned()))
}

/// Converts seconds since the Unix epoch. Times before it are taken as the epoch.
fn since_epoch(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
