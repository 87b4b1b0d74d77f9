//! A master with one replica, for a test of writes that wait for replicas.

use super::server::RedisServer;
use super::wait::wait_until;

/// Two servers with `appendfsync always`. Both are killed on drop.
#[derive(Debug)]
pub struct RedisPair {
    /// The master, which needs its replica.
    pub master: RedisServer,
    /// The replica.
    pub replica: RedisServer,
}

impl RedisPair {
    /// Starts both servers, and waits until the replica is connected.
    ///
    /// # Panics
    ///
    /// Panics if there is no redis-server, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        let args = ["--appendonly", "yes", "--appendfsync", "always"];
        let delay = ["--repl-diskless-sync-delay", "0"];
        // With a long lag allowed, the master itself accepts writes while the replica is stopped.
        let min = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "60"];
        let common: Vec<&str> = args.into_iter().chain(delay).chain(min).collect();
        let master = RedisServer::start_with(&common);
        let port = master.port().to_string();
        let of_replica = common.iter().copied().chain(["--replicaof", "127.0.0.1", &port]);
        let replica = RedisServer::start_with(&of_replica.collect::<Vec<_>>());
        wait_until("a replica that is connected", || {
            master.query::<String>(&["INFO", "replication"]).contains("state=online")
        });
        Self { master, replica }
    }
}
