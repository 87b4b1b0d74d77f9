//! Reads certificates and keys from files in the PEM format.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::provider;

/// The reason that a certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct TlsFileError {
    /// What cannot be used, with the name of its file.
    pub what: String,
    /// What is wrong with it.
    pub reason: String,
    is_mismatch: bool,
}

impl TlsFileError {
    pub(crate) fn new(what: impl ToString, reason: impl ToString) -> Self {
        Self { what: what.to_string(), reason: reason.to_string(), is_mismatch: false }
    }

    /// An error of a certificate.
    pub(super) fn certificate(path: &Path, reason: impl ToString) -> Self {
        Self::new(format_args!("certificate {}", path.display()), reason)
    }

    /// An error of a private key.
    pub(super) fn key(path: &Path, reason: impl ToString) -> Self {
        Self::new(format_args!("private key {}", path.display()), reason)
    }

    /// An error of the certificates of authorities.
    pub(super) fn authorities(path: &Path, reason: impl ToString) -> Self {
        Self::new(format_args!("certificates of authorities {}", path.display()), reason)
    }

    /// Returns whether the key is that of another certificate, as it is while files are replaced.
    pub(super) fn is_mismatch(&self) -> bool {
        self.is_mismatch
    }
}

/// Reads the certificates of authorities.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsFileError> {
    let failed = |reason: String| TlsFileError::authorities(path, reason);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path).map_err(failed)? {
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    Ok(roots)
}

/// Reads a certificate, with those between it and the authority, and its key.
pub(super) fn identity(cert_file: &Path, key_file: &Path) -> Result<CertifiedKey, TlsFileError> {
    let chain =
        certificates(cert_file).map_err(|reason| TlsFileError::certificate(cert_file, reason))?;
    let failed = |reason: String| TlsFileError::key(key_file, reason);
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| failed(describe(&error)))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsFileError {
            is_mismatch: true,
            ..failed(format!("it is not the key of the certificate {}", cert_file.display()))
        },
        other => failed(other.to_string()),
    })
}

/// Reads all certificates of a file, of which there is at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).map_err(|error| describe(&error))?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|error| describe(&error))?;
    if all.is_empty() {
        return Err("no certificate in the PEM format was found".to_owned());
    }
    Ok(all)
}

fn describe(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "nothing in the PEM format was found".to_owned(),
        // The others may quote what they have read.
        _ => "it is not in the PEM format".to_owned(),
    }
}
