//! Certificates for tests of TLS.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

/// A certificate authority. Its files are removed on drop.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

/// The files of a certificate and its private key, in PEM format.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// Creates an authority.
    ///
    /// # Panics
    ///
    /// Panics if files cannot be written.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut params = CertificateParams::default();
        let name = format!("authority {}", dir.path().display());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        fs::write(dir.path().join("ca.pem"), issuer.pem()).expect("a file");
        Self { issuer, dir }
    }

    /// Returns the file with the certificate of the authority.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Issues a certificate for the loopback interface that is valid today.
    #[must_use]
    pub fn issue(&self, name: &str) -> Certificate {
        self.issue_for(name, "127.0.0.1", 1)
    }

    /// Issues a certificate that expired yesterday.
    #[must_use]
    pub fn issue_expired(&self, name: &str) -> Certificate {
        self.issue_for(name, "127.0.0.1", -1)
    }

    /// Issues a certificate for a host, which expires in a number of days.
    ///
    /// # Panics
    ///
    /// Panics if files cannot be written.
    #[must_use]
    pub fn issue_for(&self, name: &str, host: &str, days: i64) -> Certificate {
        let mut params = CertificateParams::new([host.to_owned()]).expect("a host");
        params.distinguished_name.push(DnType::CommonName, name);
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) =
            (now - Duration::days(9), now + Duration::days(days));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let file = |ending: &str| self.dir.path().join(format!("{name}.{ending}"));
        write(&file("pem"), &cert.pem());
        write(&file("key"), &key.serialize_pem());
        Certificate { cert: file("pem"), key: file("key") }
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
}
