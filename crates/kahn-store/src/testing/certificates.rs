//! Certificates for tests of TLS.

use std::fs;
use std::path::{Path, PathBuf};

use kahn_net::authority::{Authority as Issuer, Usage};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

/// A certificate authority. Its files are removed on drop.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer,
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
        let name = format!("authority {}", dir.path().display());
        let (issuer, issued) = Issuer::create(&name, 1).expect("a certificate");
        write(&dir.path().join("ca.pem"), &issued.certificate);
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
        let now = OffsetDateTime::now_utc();
        let validity = (now - Duration::days(9), now + Duration::days(days));
        let usage = Usage::Server(&[host.to_owned()]);
        let issued = self.issuer.issue_during(name, usage, validity).expect("a certificate");
        let file = |ending: &str| self.dir.path().join(format!("{name}.{ending}"));
        write(&file("pem"), &issued.certificate);
        write(&file("key"), &issued.key);
        Certificate { cert: file("pem"), key: file("key") }
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
}
