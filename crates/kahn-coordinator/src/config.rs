//! What an operator may choose about a coordinator: the section `[coordinator]` of `kahn.toml`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use kahn_core::{Settings, Spreading};
use kahn_runtime::health::HealthSettings;
use kahn_runtime::human_duration;
use kahn_runtime::secret::Secret;
use serde::{Deserialize, Serialize};

/// What an operator may choose about a coordinator.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// Where tokens, logs and the embedded store are kept.
    pub data_dir: PathBuf,
    /// Where the state of runs is kept.
    pub store: StoreConfig,
    /// What clients show; read from `client_token_file` when not given.
    pub client_token: Option<Secret>,
    /// Where the clients' token is, or is put when there is none yet; `client.token` in the data
    /// directory when not given.
    pub client_token_file: Option<PathBuf>,
    /// What workers show; read from `worker_token_file` when not given.
    pub worker_token: Option<Secret>,
    /// Where the workers' token is, or is put when there is none yet; `worker.token` in the data
    /// directory when not given.
    pub worker_token_file: Option<PathBuf>,
    /// Where health and metrics are served.
    pub health: HealthSettings,
    /// A worker not heard from for this long gets no new leases.
    #[serde(with = "human_duration")]
    pub suspect_after: Duration,
    /// A worker not heard from for this long is lost.
    #[serde(with = "human_duration")]
    pub lease_ttl: Duration,
    /// How long a request that fits no known worker waits for one that it fits.
    #[serde(with = "human_duration")]
    pub infeasible_grace: Duration,
    /// How much work, in time, a worker is given ahead of its room.
    #[serde(with = "human_duration")]
    pub prefetch_span: Duration,
    /// `spread` or `pack`.
    pub placement: Placement,
    /// How much may come in.
    pub limits: Limits,
}

/// Which of several workers with room gets a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// The emptiest.
    #[default]
    Spread,
    /// The fullest that still has room.
    Pack,
}

/// Where the state of runs is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// `embedded` (a file in the data directory, also when not given), `memory`, or the URL of a
    /// Redis server.
    pub url: Option<Secret>,
    /// For the embedded store: `process` survives the end of the process, `disk` that of the
    /// machine. Redis has the level of its own settings.
    pub durability: EmbeddedDurability,
    /// Over how many logs runs are spread; fixed when the store is first used. 16 for Redis and 1
    /// otherwise when not given.
    pub partitions: Option<u16>,
    /// Whether to start on a Redis server whose settings can lose what was acknowledged.
    pub allow_unsafe_redis: bool,
}

/// What an acknowledged change survives in the embedded store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddedDurability {
    /// The end of the process, however sudden.
    #[default]
    Process,
    /// The end of the machine, too.
    Disk,
}

impl StoreConfig {
    /// `embedded`, `memory`, or the URL of a Redis server.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_ref().map_or("embedded", Secret::expose)
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            url: None,
            durability: EmbeddedDurability::Process,
            partitions: None,
            allow_unsafe_redis: false,
        }
    }
}

/// How much may come in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest gRPC message, in bytes.
    pub message_bytes: usize,
    /// Largest DAG file, in bytes.
    pub document_bytes: usize,
    /// Streams and calls at one time on one connection.
    pub streams_per_connection: u32,
    /// Calls at one time on one connection that are being worked on.
    pub calls_per_connection: usize,
    /// Bytes of output kept of one attempt.
    pub log_bytes: u64,
    /// Bytes of output kept of all attempts together. When they run out, the output of the oldest
    /// finished runs goes first.
    pub total_log_bytes: u64,
    /// Finished runs that are kept; the oldest go first.
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
            data_dir: PathBuf::from("kahn-data"),
            store: StoreConfig::default(),
            client_token: None,
            client_token_file: None,
            worker_token: None,
            worker_token_file: None,
            health: HealthSettings::on_loopback(7401),
            suspect_after: core.suspect_after,
            lease_ttl: core.lease_ttl,
            infeasible_grace: core.infeasible_grace,
            prefetch_span: core.prefetch_span,
            placement: Placement::Spread,
            limits: Limits::default(),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// Too few heartbeats fit into a lease to tell a slow worker from a dead one.
    #[error("lease_ttl is {lease_ttl:?}; it must be at least 3 s, three heartbeats")]
    LeaseTooShort {
        /// What was asked for.
        lease_ttl: Duration,
    },
    /// A worker would be lost before it is suspect.
    #[error("suspect_after ({suspect_after:?}) must be shorter than lease_ttl ({lease_ttl:?})")]
    SuspectTooLate {
        /// What was asked for.
        suspect_after: Duration,
        /// What was asked for.
        lease_ttl: Duration,
    },
    /// A cluster has at least one log.
    #[error("store.partitions must be between 1 and 1024, not {0}")]
    Partitions(u16),
}

impl Config {
    /// Checks what cannot be seen from one value alone, and gives the settings of the core.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the values.
    pub fn settings(&self) -> Result<Settings, InvalidConfig> {
        let partitions = self.partitions();
        if !(1..=1024).contains(&partitions) {
            return Err(InvalidConfig::Partitions(partitions));
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
            ..Settings::default()
        })
    }

    fn partitions(&self) -> u16 {
        let usual = if self.store.url().starts_with("redis") { 16 } else { 1 };
        self.store.partitions.unwrap_or(usual)
    }
}
