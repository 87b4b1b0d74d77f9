//! The configuration of a store in Redis.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use kahn_net::ClientTls;

use crate::lease::LEASE_TTL;

/// Connection settings for Redis, and the required level of safety.
#[derive(Clone)]
pub struct RedisConfig {
    /// One of
    ///
    /// * `redis://[user[:password]@]host[:port][/database]` or `unix:///path`,
    /// * `redis+sentinel://[user[:password]@]sentinel[:port][,…]/master[/database]`,
    /// * `redis+cluster://[user[:password]@]node[:port][,…]`,
    ///
    /// or with `rediss` instead of `redis` for TLS.
    pub url: String,
    /// The user, if it is not in the URL.
    pub user: Option<String>,
    /// A file with the password, if it is not in the URL. It is read for each new connection.
    pub password_file: Option<PathBuf>,
    /// The user at the sentinels.
    pub sentinel_user: Option<String>,
    /// A file with the password at the sentinels. It is read for each new connection.
    pub sentinel_password_file: Option<PathBuf>,
    /// The certificates to use with TLS.
    pub tls: ClientTls,
    /// The number of replicas that must have received a write before it is acknowledged.
    pub replicas: u32,
    /// The total timeout for connecting, authenticating and loading the scripts.
    pub connect_timeout: Duration,
    /// If no reply arrives within this time, the outcome of a request is unknown. At most half of
    /// `lease_ttl` is used, so that an owner can try again before its lease expires.
    pub response_timeout: Duration,
    /// Whether to accept a Redis that may lose or evict acknowledged batches.
    pub allow_unsafe: bool,
    /// How long an owner keeps a partition without renewing its lease.
    pub lease_ttl: Duration,
}

impl RedisConfig {
    /// Creates a configuration with the defaults for the Redis at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            user: None,
            password_file: None,
            sentinel_user: None,
            sentinel_password_file: None,
            tls: ClientTls::default(),
            replicas: 0,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(2),
            allow_unsafe: false,
            lease_ttl: LEASE_TTL,
        }
    }

    /// Returns the timeout for replies. A leader whose lease is short cannot wait long for them.
    pub(super) fn reply_within(&self) -> Duration {
        self.response_timeout.min(self.lease_ttl / 2)
    }
}

impl fmt::Debug for RedisConfig {
    /// Omits the URL, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("replicas", &self.replicas)
            .field("allow_unsafe", &self.allow_unsafe)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_awaited_for_half_of_a_short_lease_at_most() {
        let config = RedisConfig::new("redis://host");
        assert_eq!(config.reply_within(), Duration::from_millis(1500));
        let short = RedisConfig { lease_ttl: Duration::from_secs(1), ..config.clone() };
        assert_eq!(short.reply_within(), Duration::from_millis(500));
        let long = RedisConfig { lease_ttl: Duration::from_secs(60), ..config };
        assert_eq!(long.reply_within(), Duration::from_secs(2));
    }

    #[test]
    fn debug_output_has_no_password() {
        let config = RedisConfig::new("redis://user:hunter2@host");
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
