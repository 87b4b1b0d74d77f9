//! Certificates as `kahn certs` makes them.

use std::path::{Path, PathBuf};

use crate::binary::kahn;

/// A directory with an authority and the certificates that it has issued.
#[derive(Debug)]
pub struct Certs(PathBuf);

impl Certs {
    /// Creates an authority in `dir`.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written.
    pub fn create(dir: &Path) -> anyhow::Result<Self> {
        let certs = Self(dir.to_owned());
        kahn(&["certs", "init", "--dir", &certs.file("")], &[])?.ok()?;
        Ok(certs)
    }

    /// Issues a certificate for a process on this host.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written.
    pub fn issue(&self, name: &str) -> anyhow::Result<()> {
        kahn(&["certs", "issue", name, "--dir", &self.file("")], &[])?.ok()?;
        Ok(())
    }

    /// Issues a certificate again, with a new key, in the place of the earlier one.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written.
    pub fn replace(&self, name: &str) -> anyhow::Result<()> {
        kahn(&["certs", "issue", name, "--replace", "--dir", &self.file("")], &[])?.ok()?;
        Ok(())
    }

    /// Returns the path of a file.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Returns the environment variables with this prefix that name the authority and the
    /// certificate `name`.
    #[must_use]
    pub fn environment(&self, prefix: &str, name: &str) -> Vec<(String, String)> {
        [
            ("CA", "ca.pem".to_owned()),
            ("CERT", format!("{name}.pem")),
            ("KEY", format!("{name}.key")),
        ]
        .into_iter()
        .map(|(what, file)| (format!("{prefix}{what}_FILE"), self.file(&file)))
        .collect()
    }
}
