//! The Redis of a cluster with standbys: one server, or several that replace each other.

use std::path::Path;
use std::str::FromStr;

use crate::redis::RedisServer;
use crate::replicated::Replicated;

/// How Redis is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreKind {
    /// One server with `appendfsync everysec`: level `process`.
    #[default]
    Redis,
    /// A master and two replicas with `appendfsync always`, watched over by three sentinels. A
    /// change is acknowledged when a replica has it: level `replicated`.
    Sentinel,
    /// A Redis Cluster of three masters with a replica each, at level `replicated`.
    Cluster,
}

impl FromStr for StoreKind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "redis" => Self::Redis,
            "sentinel" => Self::Sentinel,
            "cluster" => Self::Cluster,
            _ => anyhow::bail!("{text:?} is none of redis, sentinel and cluster"),
        })
    }
}

/// The servers of a cluster.
#[derive(Debug)]
pub(crate) enum Servers {
    Single(RedisServer),
    Replicated(Box<Replicated>),
}

impl Servers {
    pub(crate) fn start(kind: StoreKind, dir: &Path) -> anyhow::Result<Self> {
        Ok(match kind {
            StoreKind::Redis => Self::Single(RedisServer::start(dir.to_owned(), "everysec")?),
            StoreKind::Sentinel => Self::Replicated(Box::new(Replicated::start_sentinel()?)),
            StoreKind::Cluster => Self::Replicated(Box::new(Replicated::start_cluster()?)),
        })
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Single(server) => server.url(),
            Self::Replicated(servers) => servers.url(),
        }
    }

    /// Returns what coordinators must be told, as environment variables.
    pub(crate) fn environment(&self) -> Option<(&'static str, &'static str)> {
        match self {
            // An earlier version may not know the setting.
            Self::Single(_) => None,
            Self::Replicated(_) => Some(("KAHN_COORDINATOR__STORE__REPLICAS", "1")),
        }
    }

    /// Returns the only server.
    ///
    /// # Panics
    ///
    /// Panics if there are several.
    pub(crate) fn single(&mut self) -> &mut RedisServer {
        match self {
            Self::Single(server) => server,
            Self::Replicated(_) => panic!("several servers: use failovers"),
        }
    }

    /// Returns the servers that replace each other.
    ///
    /// # Panics
    ///
    /// Panics if there is only one.
    pub(crate) fn replicated(&mut self) -> &mut Replicated {
        match self {
            Self::Replicated(servers) => servers,
            Self::Single(_) => panic!("one server, which nothing replaces"),
        }
    }
}
