//! Servers of Redis that replace each other when one fails.
//!
//! The fixtures of `kahn-store` panic with advice if something takes too long. Here that becomes an
//! error, so that the output of all processes is shown.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use kahn_store::testing::{RedisCluster, RedisServer, SentinelSetup};

use crate::wait::wait_until;

/// Level `replicated`, and commands that block a server.
const ARGUMENTS: [&str; 10] = [
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--min-replicas-to-write",
    "1",
    "--min-replicas-max-lag",
    "10",
    "--enable-debug-command",
    "yes",
];
/// Longer than it takes until a master counts as down, in seconds.
const BLOCKED_SECONDS: &str = "2.5";
/// How long a failover may take.
const FAILOVER_MAX: Duration = Duration::from_secs(60);

/// How the master of a partition is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failover {
    /// It is killed, and started again when another server has replaced it.
    Kill,
    /// It is stopped with SIGSTOP, and continued when another server has replaced it.
    Pause,
    /// It hands over on request.
    HandOver,
    /// It answers nothing for longer than its replicas wait.
    Block,
    /// Its slot moves to another master. Only in a Redis Cluster.
    MoveSlot,
}

/// Servers behind Sentinel or in a Redis Cluster, and the failover that is under way.
#[derive(Debug)]
pub(crate) struct Replicated {
    setup: Setup,
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
enum Setup {
    Sentinel(SentinelSetup),
    Cluster(RedisCluster),
}

/// Positions of servers.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    how: Failover,
    master: usize,
    /// The server that will replace it; unknown with Sentinel.
    next: Option<usize>,
}

impl Replicated {
    pub(crate) fn start_sentinel() -> anyhow::Result<Self> {
        let setup = guarded(|| Setup::Sentinel(SentinelSetup::start(&ARGUMENTS)))?;
        Ok(Self { setup, under_way: None })
    }

    pub(crate) fn start_cluster() -> anyhow::Result<Self> {
        let setup = guarded(|| Setup::Cluster(RedisCluster::start(&ARGUMENTS)))?;
        Ok(Self { setup, under_way: None })
    }

    pub(crate) fn url(&self) -> String {
        match &self.setup {
            Setup::Sentinel(setup) => setup.url(0),
            Setup::Cluster(setup) => setup.url(),
        }
    }

    /// Begins to replace the master of a partition.
    pub(crate) fn begin(&mut self, how: Failover, partition: u16) -> anyhow::Result<()> {
        let setup = &mut self.setup;
        self.under_way = Some(guarded(|| setup.begin(how, partition))?);
        Ok(())
    }

    /// Waits until the master was replaced, brings it back, and waits until all replicas are
    /// connected.
    pub(crate) fn end(&mut self) -> anyhow::Result<()> {
        let Some(under_way) = self.under_way.take() else { return Ok(()) };
        let setup = &mut self.setup;
        guarded(|| setup.end(under_way))?
    }
}

impl Setup {
    fn begin(&mut self, how: Failover, partition: u16) -> UnderWay {
        let (master, next) = self.master_and_next(how, partition);
        match how {
            Failover::Kill => self.server(master).kill9(),
            Failover::Pause => self.server(master).pause(),
            Failover::Block => block(self.server(master).port()),
            Failover::HandOver => self.hand_over(next),
            // All at once: see `end`.
            Failover::MoveSlot => {
                if let (Self::Cluster(cluster), Some(next)) = (&*self, next) {
                    cluster.move_slot(slot(cluster, partition), next);
                }
            }
        }
        UnderWay { how, master, next }
    }

    fn end(&mut self, UnderWay { how, master, next }: UnderWay) -> anyhow::Result<()> {
        wait_until("the master to be replaced", FAILOVER_MAX, || self.is_replaced(master, next))?;
        match (how, &mut *self) {
            (Failover::Kill, Self::Sentinel(setup)) => {
                let port = setup.servers[master].port();
                setup.restart(port);
            }
            (Failover::Kill, Self::Cluster(cluster)) => cluster.nodes[master].restart(),
            (Failover::Pause, _) => self.server(master).resume(),
            (Failover::HandOver | Failover::Block | Failover::MoveSlot, _) => {}
        }
        match self {
            Self::Sentinel(setup) => setup.wait_until_whole(),
            Self::Cluster(cluster) => cluster.wait_until_whole(),
        }
        Ok(())
    }

    fn master_and_next(&mut self, how: Failover, partition: u16) -> (usize, Option<usize>) {
        match self {
            Self::Sentinel(setup) => {
                let port = setup.master_port();
                let is_master = |server: &RedisServer| server.port() == port;
                (setup.servers.iter().position(is_master).expect("a server of ours"), None)
            }
            Self::Cluster(cluster) => {
                let master = cluster.master_of(slot(cluster, partition));
                let next = match how {
                    Failover::MoveSlot => (0..cluster.nodes.len())
                        .find(|ix| *ix != master && cluster.nodes[*ix].is_master()),
                    Failover::Kill | Failover::Pause | Failover::HandOver | Failover::Block => {
                        Some(cluster.replica_of(master))
                    }
                };
                (master, next)
            }
        }
    }

    fn is_replaced(&self, master: usize, next: Option<usize>) -> bool {
        match self {
            Self::Sentinel(setup) => setup.master_port() != setup.servers[master].port(),
            Self::Cluster(cluster) => next.is_none_or(|next| cluster.nodes[next].is_master()),
        }
    }

    fn server(&mut self, ix: usize) -> &mut RedisServer {
        match self {
            Self::Sentinel(setup) => &mut setup.servers[ix],
            Self::Cluster(cluster) => &mut cluster.nodes[ix],
        }
    }

    fn hand_over(&self, next: Option<usize>) {
        match (self, next) {
            (Self::Sentinel(setup), _) => setup.fail_over(),
            (Self::Cluster(cluster), Some(next)) => {
                cluster.nodes[next].run(&["CLUSTER", "FAILOVER"])
            }
            (Self::Cluster(_), None) => {}
        }
    }
}

fn slot(cluster: &RedisCluster, partition: u16) -> u16 {
    let key = format!("kahn:{{p{partition:03}}}:m");
    cluster.nodes[0].query(&["CLUSTER", "KEYSLOT", &key])
}

/// Makes a server answer nothing for a while, in the background.
fn block(port: u16) {
    let mut client = Command::new("redis-cli");
    client.args(["-p", &port.to_string(), "DEBUG", "SLEEP", BLOCKED_SECONDS]);
    client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Whether it was replaced is asked later.
    thread::spawn(move || drop(client.status()));
}

/// Runs something that panics if it fails, and returns an error instead.
fn guarded<T: Send>(work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    let done = thread::scope(|scope| scope.spawn(work).join());
    done.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        anyhow::anyhow!("redis: {}", text.unwrap_or("a panic without a message"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_fixture_becomes_an_error_with_its_message() {
        let failed: anyhow::Result<()> = guarded(|| panic!("not within {}", 7));
        assert_eq!(failed.unwrap_err().to_string(), "redis: not within 7");
        assert_eq!(guarded(|| 7).unwrap(), 7);
    }
}
