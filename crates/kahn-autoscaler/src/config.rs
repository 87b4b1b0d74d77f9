//! The configuration: the section `[autoscaler]` of `kahn.toml`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use kahn_net::{ClientAuth, ServerTlsFiles};
use kahn_runtime::health::HealthSettings;
use serde::{Deserialize, Serialize};

/// The configuration of an autoscaler.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address of the gRPC server for KEDA.
    pub listen: SocketAddr,
    /// TLS of this server.
    pub tls: TlsConfig,
    /// Whether to listen on an address that other hosts can reach without TLS.
    pub insecure: bool,
    /// How Kubernetes is told which workers to remove first.
    pub deletion_cost: DeletionCostConfig,
    /// The server for health and metrics.
    pub health: HealthSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 7403).into(),
            tls: TlsConfig::default(),
            insecure: false,
            deletion_cost: DeletionCostConfig::default(),
            health: HealthSettings::on_loopback(7404),
        }
    }
}

/// TLS of the gRPC server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate, with those between it and the authority. TLS is off without it.
    pub cert_file: Option<PathBuf>,
    /// The private key of the certificate.
    pub key_file: Option<PathBuf>,
    /// The certificates of the authorities of KEDA, which then has to show a certificate.
    pub client_ca_file: Option<PathBuf>,
}

/// How Kubernetes is told which workers to remove first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeletionCostConfig {
    /// Whether the pods of workers are annotated. Needs a service account that may patch pods. The name
    /// of a worker must be that of its pod, as it is by default.
    pub enabled: bool,
    /// The namespace of the workers' pods. Default: that of the own pod.
    pub namespace: Option<String>,
}

/// An error in the configuration.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// A file for TLS is of no use without another one.
    #[error("autoscaler.tls.{given} is set without autoscaler.tls.{needed}")]
    TlsFile {
        /// The key that is set.
        given: &'static str,
        /// The key that is missing.
        needed: &'static str,
    },
    /// Everybody in the network could ask.
    #[error(
        "autoscaler.listen is {0}, which other hosts can reach, and TLS is off; set \
         autoscaler.tls.cert_file and autoscaler.tls.key_file, or accept clear text with \
         autoscaler.insecure = true"
    )]
    ClearText(SocketAddr),
}

impl Config {
    /// Returns the files of the server, or `None` if TLS is off.
    ///
    /// # Errors
    ///
    /// Returns an [`InvalidConfig`] if a file is missing without which another one is of no use, or if
    /// clear text is not accepted.
    pub fn server_tls(&self) -> Result<Option<ServerTlsFiles>, InvalidConfig> {
        let needs = |given, needed| Err(InvalidConfig::TlsFile { given, needed });
        match (&self.tls.cert_file, &self.tls.key_file) {
            (Some(cert), Some(key)) => Ok(Some(ServerTlsFiles {
                cert_file: cert.clone(),
                key_file: key.clone(),
                client_ca_file: self.tls.client_ca_file.clone(),
                client_auth: ClientAuth::Required,
            })),
            (Some(_), None) => needs("cert_file", "key_file"),
            (None, Some(_)) => needs("key_file", "cert_file"),
            (None, None) if self.tls.client_ca_file.is_some() => {
                needs("client_ca_file", "cert_file")
            }
            (None, None) if self.insecure || self.listen.ip().is_loopback() => Ok(None),
            (None, None) => Err(InvalidConfig::ClearText(self.listen)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_text_off_loopback_has_to_be_accepted() {
        let open = Config { listen: ([0, 0, 0, 0], 7403).into(), ..Config::default() };
        assert!(open.server_tls().unwrap_err().to_string().contains("insecure = true"));
        assert!(Config { insecure: true, ..open.clone() }.server_tls().unwrap().is_none());
        assert!(Config::default().server_tls().unwrap().is_none());
        let (cert_file, key_file) = (Some("a.pem".into()), Some("a.key".into()));
        let tls = TlsConfig { cert_file, key_file, client_ca_file: None };
        assert!(Config { tls: tls.clone(), ..open.clone() }.server_tls().unwrap().is_some());
        let half = Config { tls: TlsConfig { key_file: None, ..tls }, ..open };
        assert!(half.server_tls().unwrap_err().to_string().contains("tls.key_file"));
    }
}
