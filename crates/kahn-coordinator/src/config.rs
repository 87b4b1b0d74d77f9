//! The configuration of a coordinator: the section `[coordinator]` of `kahn.toml`.

mod blobs;
mod pools;
mod retention;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use kahn_core::{Settings, Spreading};
use kahn_net::{ClientAuth, ClientTls, ServerTlsFiles};
use kahn_runtime::health::HealthSettings;
use kahn_runtime::human_duration;
use kahn_runtime::secret::Secret;
use kahn_store::{LEASE_TTL, RedisConfig};
use serde::{Deserialize, Serialize};
use tonic::codegen::http::uri::Authority;

pub use blobs::{BlobsConfig, BlobsError};
pub use pools::{InvalidPool, PoolConfig};
pub use retention::{Age, Retain, RetentionConfig};

/// The configuration of a coordinator.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address of the gRPC server.
    pub listen: SocketAddr,
    /// The URL at which other coordinators, workers and clients reach this one; derived from
    /// `listen` by default.
    pub advertise: Option<String>,
    /// TLS of the gRPC server.
    pub tls: TlsConfig,
    /// Whether to listen on an address that other hosts can reach without TLS.
    pub insecure: bool,
    /// The directory of tokens, logs and the embedded store. No two coordinators can share it.
    pub data_dir: PathBuf,
    /// The store for the state of runs.
    pub store: StoreConfig,
    /// The store for output and histories that outlive the host of a coordinator.
    pub blobs: BlobsConfig,
    /// The clients' token; read from `client_token_file` by default.
    pub client_token: Option<Secret>,
    /// The file with the clients' token, created if it does not exist; `client.token` in the data
    /// directory by default.
    pub client_token_file: Option<PathBuf>,
    /// The workers' token; read from `worker_token_file` by default.
    pub worker_token: Option<Secret>,
    /// The file with the workers' token, created if it does not exist; `worker.token` in the data
    /// directory by default.
    pub worker_token_file: Option<PathBuf>,
    /// The server for health and metrics.
    pub health: HealthSettings,
    /// What the labels of metrics may name.
    pub metrics: MetricsConfig,
    /// A standby takes over if the leader has not renewed its lease in the store for this long.
    #[serde(with = "human_duration")]
    pub leader_ttl: Duration,
    /// A worker that is silent for this long gets no new leases.
    #[serde(with = "human_duration")]
    pub suspect_after: Duration,
    /// A worker that is silent for this long is lost.
    #[serde(with = "human_duration")]
    pub lease_ttl: Duration,
    /// How long a request waits for a suitable worker if it fits no known worker.
    #[serde(with = "human_duration")]
    pub infeasible_grace: Duration,
    /// Amount of work, as a duration, granted to a worker ahead of its room.
    #[serde(with = "human_duration")]
    pub prefetch_span: Duration,
    /// `spread` or `pack`.
    pub placement: Placement,
    /// The pools of workers whose size follows the demand, by the value of the label `pool` of their
    /// workers.
    pub pools: BTreeMap<String, PoolConfig>,
    /// How long finished runs and their output are kept.
    pub retention: RetentionConfig,
    /// Limits on sizes and numbers.
    pub limits: Limits,
}

/// TLS of the gRPC server, and of connections to other coordinators.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate that is shown to clients, workers and other coordinators, with those between
    /// it and the authority. TLS is off without it.
    pub cert_file: Option<PathBuf>,
    /// The private key of the certificate.
    pub key_file: Option<PathBuf>,
    /// The certificates of the authorities of clients and workers. Without it, these need no
    /// certificate.
    pub client_ca_file: Option<PathBuf>,
    /// With a `client_ca_file`: `required` (the default), or `workers` if only workers have to show a
    /// certificate.
    pub client_auth: Option<ClientAuth>,
    /// The certificates of the authorities of other coordinators; `client_ca_file` by default, or
    /// else what this host trusts.
    pub ca_file: Option<PathBuf>,
}

impl TlsConfig {
    /// Returns the files of the server, or `None` if TLS is off.
    ///
    /// # Errors
    ///
    /// Returns an error if a file is missing without which another one is of no use.
    pub fn server(&self) -> Result<Option<ServerTlsFiles>, InvalidConfig> {
        let needs = |given, needed| Err(InvalidConfig::TlsFile { given, needed });
        if self.client_auth.is_some() && self.client_ca_file.is_none() {
            return needs("client_auth", "client_ca_file");
        }
        match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => Ok(Some(ServerTlsFiles {
                cert_file: cert.clone(),
                key_file: key.clone(),
                client_ca_file: self.client_ca_file.clone(),
                client_auth: self.client_auth.unwrap_or_default(),
            })),
            (Some(_), None) => needs("cert_file", "key_file"),
            (None, Some(_)) => needs("key_file", "cert_file"),
            (None, None) if self.client_ca_file.is_some() => needs("client_ca_file", "cert_file"),
            (None, None) if self.ca_file.is_some() => needs("ca_file", "cert_file"),
            (None, None) => Ok(None),
        }
    }

    /// Returns the files for connections to other coordinators.
    pub(crate) fn peers(&self) -> ClientTls {
        ClientTls {
            ca_file: self.ca_file.clone().or_else(|| self.client_ca_file.clone()),
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
        }
    }

    /// Returns whether a worker without a certificate is refused.
    pub(crate) fn needs_worker_certificate(&self) -> bool {
        self.client_ca_file.is_some()
    }
}

/// Which of several workers with room gets a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// The emptiest one.
    #[default]
    Spread,
    /// The fullest one that still has room.
    Pack,
}

/// The store for the state of runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// `embedded` (a file in the data directory, the default), `memory`, or the URL of a Redis
    /// server, of sentinels or of a Redis Cluster.
    pub url: Option<Secret>,
    /// The user of Redis, if it is not in the URL.
    pub user: Option<String>,
    /// A file with the password of Redis, if it is not in the URL. It is read for each connection.
    pub password_file: Option<PathBuf>,
    /// The user of the sentinels.
    pub sentinel_user: Option<String>,
    /// A file with the password of the sentinels. It is read for each connection.
    pub sentinel_password_file: Option<PathBuf>,
    /// The authorities that sign the certificates of Redis; those of the operating system by
    /// default.
    pub ca_file: Option<PathBuf>,
    /// The certificate to show to Redis.
    pub cert_file: Option<PathBuf>,
    /// The private key of the certificate.
    pub key_file: Option<PathBuf>,
    /// The number of replicas of Redis that must have received a change before it is acknowledged.
    pub replicas: u32,
    /// For the embedded store: `process` survives the end of the process, `disk` also a crash of
    /// the machine. The durability of Redis depends on its own configuration.
    pub durability: EmbeddedDurability,
    /// Number of logs that runs are distributed over; fixed when the store is first used. By
    /// default 16 for Redis and 1 otherwise.
    pub partitions: Option<u16>,
    /// Whether to start with a Redis server whose configuration can lose acknowledged writes.
    pub allow_unsafe_redis: bool,
}

/// What an acknowledged change survives in the embedded store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddedDurability {
    /// A crash of the process.
    #[default]
    Process,
    /// A crash of the machine.
    Disk,
}

impl StoreConfig {
    /// Returns whether several coordinators can use the store.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !matches!(self.url(), "embedded" | "memory")
    }

    /// Returns `embedded`, `memory`, or the URL of a Redis server.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_ref().map_or("embedded", Secret::expose)
    }

    /// Returns the configuration of a store in Redis for a leader with this lease.
    #[must_use]
    pub fn redis(&self, leader_ttl: Duration) -> RedisConfig {
        RedisConfig {
            user: self.user.clone(),
            password_file: self.password_file.clone(),
            sentinel_user: self.sentinel_user.clone(),
            sentinel_password_file: self.sentinel_password_file.clone(),
            tls: ClientTls {
                ca_file: self.ca_file.clone(),
                cert_file: self.cert_file.clone(),
                key_file: self.key_file.clone(),
            },
            replicas: self.replicas,
            allow_unsafe: self.allow_unsafe_redis,
            lease_ttl: leader_ttl,
            ..RedisConfig::new(self.url())
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            url: None,
            user: None,
            password_file: None,
            sentinel_user: None,
            sentinel_password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            replicas: 0,
            durability: EmbeddedDurability::Process,
            partitions: None,
            allow_unsafe_redis: false,
        }
    }
}

/// What the labels of metrics may name, for coordinators whose metrics are read by people who may
/// not know the names.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Whether the wait in the queue is shown for each namespace.
    pub namespaces: bool,
    /// Whether the demand for workers is shown by the labels that tasks require.
    pub labels: bool,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { namespaces: true, labels: true }
    }
}

/// Limits on sizes and numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Maximum size of a gRPC message, in bytes.
    pub message_bytes: usize,
    /// Maximum size of a DAG file, in bytes.
    pub document_bytes: usize,
    /// Maximum number of concurrent streams and calls on one connection.
    pub streams_per_connection: u32,
    /// Maximum number of calls on one connection that are processed concurrently.
    pub calls_per_connection: usize,
    /// Maximum number of output bytes kept per attempt.
    pub log_bytes: u64,
    /// Maximum number of output bytes kept in the data directory for all attempts together. If it
    /// is exceeded, the output of the oldest finished runs is removed first. With a blob store,
    /// workers keep their output while there is no room for what is not uploaded yet.
    pub total_log_bytes: u64,
    /// Maximum number of finished runs kept, of all namespaces together; the oldest are removed
    /// first. The section `retention` has limits for each namespace.
    pub finished_runs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 4 << 20,
            document_bytes: kahn_model::limits::DOCUMENT_BYTES_MAX,
            streams_per_connection: 128,
            calls_per_connection: 128,
            log_bytes: 16 << 20,
            total_log_bytes: 16 << 30,
            finished_runs: 10_000,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let core = Settings::default();
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7400),
            advertise: None,
            tls: TlsConfig::default(),
            insecure: false,
            data_dir: PathBuf::from("kahn-data"),
            store: StoreConfig::default(),
            blobs: BlobsConfig::default(),
            client_token: None,
            client_token_file: None,
            worker_token: None,
            worker_token_file: None,
            health: HealthSettings::on_loopback(7401),
            metrics: MetricsConfig::default(),
            leader_ttl: LEASE_TTL,
            suspect_after: core.suspect_after,
            lease_ttl: core.lease_ttl,
            infeasible_grace: core.infeasible_grace,
            prefetch_span: core.prefetch_span,
            placement: Placement::Spread,
            pools: BTreeMap::new(),
            retention: RetentionConfig::default(),
            limits: Limits::default(),
        }
    }
}

/// An error in the configuration.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// The lease is too short for enough heartbeats to tell a slow worker from a dead one.
    #[error("lease_ttl is {lease_ttl:?}; it must be at least 3 s, three heartbeats")]
    LeaseTooShort {
        /// The configured value.
        lease_ttl: Duration,
    },
    /// A worker would be lost before it is suspect.
    #[error("suspect_after ({suspect_after:?}) must be shorter than lease_ttl ({lease_ttl:?})")]
    SuspectTooLate {
        /// The configured value.
        suspect_after: Duration,
        /// The configured value.
        lease_ttl: Duration,
    },
    /// A leader would be replaced although it only waits for the store, or hardly ever.
    #[error("leader_ttl is {leader_ttl:?}; it must be between 1 s and 60 s")]
    LeaderTtl {
        /// The configured value.
        leader_ttl: Duration,
    },
    /// The advertised URL cannot be used.
    #[error(
        "advertise is {address:?}; as TLS is {}, write for example \"{scheme}://10.0.0.5:7400\"",
        if *.scheme == "https" { "on" } else { "off" }
    )]
    Advertise {
        /// The configured value.
        address: String,
        /// How it has to begin.
        scheme: &'static str,
    },
    /// A file for TLS is of no use without another one.
    #[error("tls.{given} is set without tls.{needed}")]
    TlsFile {
        /// The key that is set.
        given: &'static str,
        /// The key that is missing.
        needed: &'static str,
    },
    /// Tokens and output would pass through a network in clear text.
    #[error(
        "listen is {0}, which other hosts can reach, and TLS is off; set tls.cert_file and \
         tls.key_file (`kahn certs` makes some for a trial), or accept clear text with insecure = true \
         (--insecure)"
    )]
    ClearText(SocketAddr),
    /// The number of partitions is out of range.
    #[error("store.partitions must be between 1 and 1024, not {0}")]
    Partitions(u16),
    /// A pool is invalid.
    #[error(transparent)]
    Pool(#[from] InvalidPool),
}

impl Config {
    /// Validates values that depend on each other, and returns the settings of the core.
    ///
    /// # Errors
    ///
    /// Returns an [`InvalidConfig`] that names the values.
    pub fn settings(&self) -> Result<Settings, InvalidConfig> {
        let partitions = self.partitions();
        if !(1..=1024).contains(&partitions) {
            return Err(InvalidConfig::Partitions(partitions));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&self.leader_ttl) {
            return Err(InvalidConfig::LeaderTtl { leader_ttl: self.leader_ttl });
        }
        let is_secure = self.tls.server()?.is_some();
        if !is_secure && !self.insecure && !self.listen.ip().is_loopback() {
            return Err(InvalidConfig::ClearText(self.listen));
        }
        let scheme = if is_secure { "https" } else { "http" };
        if let Some(address) = &self.advertise
            && !is_url(address, scheme)
        {
            return Err(InvalidConfig::Advertise { address: address.clone(), scheme });
        }
        if self.lease_ttl < Duration::from_secs(3) {
            return Err(InvalidConfig::LeaseTooShort { lease_ttl: self.lease_ttl });
        }
        if self.suspect_after >= self.lease_ttl {
            return Err(InvalidConfig::SuspectTooLate {
                suspect_after: self.suspect_after,
                lease_ttl: self.lease_ttl,
            });
        }
        Ok(Settings {
            partitions,
            suspect_after: self.suspect_after,
            lease_ttl: self.lease_ttl,
            infeasible_grace: self.infeasible_grace,
            prefetch_span: self.prefetch_span,
            spreading: match self.placement {
                Placement::Spread => Spreading::Spread,
                Placement::Pack => Spreading::Pack,
            },
            pools: pools::settings(&self.pools)?,
            ..Settings::default()
        })
    }

    fn partitions(&self) -> u16 {
        let usual = if self.store.is_shared() { 16 } else { 1 };
        self.store.partitions.unwrap_or(usual)
    }
}

/// Returns whether `text` is a URL that consists of this scheme, a host and a port.
fn is_url(text: &str, scheme: &str) -> bool {
    let rest = text.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
    let Some(Ok(authority)) = rest.map(str::parse::<Authority>) else { return false };
    authority.port().is_some() && !authority.host().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(config: &Config, expected: &str) {
        let error = config.settings().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    fn with_tls(tls: TlsConfig) -> Config {
        Config { tls, ..Config::default() }
    }

    #[test]
    fn clear_text_off_loopback_has_to_be_accepted() {
        let open = Config { listen: ([0, 0, 0, 0], 7400).into(), ..Config::default() };
        check_refused(&open, "insecure = true");
        assert!(Config { insecure: true, ..open.clone() }.settings().is_ok());
        let (cert_file, key_file) = (Some("a.pem".into()), Some("a.key".into()));
        let tls = TlsConfig { cert_file, key_file, ..TlsConfig::default() };
        let secure = Config { tls, ..open };
        assert!(secure.settings().is_ok());
        let advertise = Some("http://10.0.0.5:7400".to_owned());
        check_refused(&Config { advertise, ..secure }, "https://10.0.0.5:7400");
    }

    #[test]
    fn settings_of_tls_without_effect_are_refused() {
        let file = || Some(PathBuf::from("a"));
        let off = TlsConfig::default;
        check_refused(&with_tls(TlsConfig { cert_file: file(), ..off() }), "tls.key_file");
        check_refused(&with_tls(TlsConfig { key_file: file(), ..off() }), "tls.cert_file");
        check_refused(&with_tls(TlsConfig { client_ca_file: file(), ..off() }), "tls.cert_file");
        check_refused(&with_tls(TlsConfig { ca_file: file(), ..off() }), "tls.cert_file");
        let (cert_file, key_file) = (file(), file());
        let client_auth = Some(ClientAuth::Workers);
        let tls = TlsConfig { cert_file, key_file, client_auth, ..off() };
        check_refused(&with_tls(tls), "tls.client_ca_file");
    }
}
