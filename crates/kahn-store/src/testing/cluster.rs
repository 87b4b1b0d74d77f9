//! A Redis Cluster for a test.

use super::server::{RedisServer, free_port};
use super::wait::wait_until;

const N_MASTERS: usize = 3;
const N_SLOTS: usize = 16384;

/// Three masters with a replica each. All are killed on drop.
#[derive(Debug)]
pub struct RedisCluster {
    /// The nodes, the first masters first.
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts all nodes, and waits until they serve requests. `args` are added to their arguments.
    ///
    /// # Panics
    ///
    /// Panics if there is no redis-server, or it does not start.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        let nodes: Vec<RedisServer> = (0..2 * N_MASTERS).map(|_| start_node(args)).collect();
        for (n, node) in nodes.iter().enumerate() {
            node.run(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]);
            node.run(&[
                "CLUSTER",
                "MEET",
                "127.0.0.1",
                &nodes[0].port().to_string(),
                &bus(&nodes[0]),
            ]);
        }
        for (n, node) in nodes[..N_MASTERS].iter().enumerate() {
            let first = (n * N_SLOTS / N_MASTERS).to_string();
            let last = ((n + 1) * N_SLOTS / N_MASTERS - 1).to_string();
            node.run(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
        let cluster = Self { nodes };
        for (n, node) in cluster.nodes[N_MASTERS..].iter().enumerate() {
            let master = cluster.nodes[n].id();
            wait_until("nodes that know each other", || {
                node.try_query::<String>(&["CLUSTER", "REPLICATE", &master]).is_ok()
            });
        }
        cluster.wait_until_whole();
        cluster
    }

    /// Returns the URL for the configuration.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> =
            self.nodes.iter().map(|one| format!("127.0.0.1:{}", one.port())).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// Waits until every node is up, knows all others, and each master has a replica.
    ///
    /// # Panics
    ///
    /// Panics if this takes too long.
    pub fn wait_until_whole(&self) {
        for node in &self.nodes {
            wait_until("a whole cluster", || {
                let nodes: String = node.try_query(&["CLUSTER", "NODES"]).unwrap_or_default();
                let info: String = node.try_query(&["CLUSTER", "INFO"]).unwrap_or_default();
                let link: String = node.try_query(&["INFO", "replication"]).unwrap_or_default();
                info.contains("cluster_state:ok")
                    && nodes.lines().count() == self.nodes.len()
                    && nodes.matches(" connected").count() == self.nodes.len()
                    && nodes.matches("slave ").count() == N_MASTERS
                    && !nodes.contains("fail")
                    && (link.contains("master_link_status:up") || link.contains("state=online"))
            });
        }
    }

    /// Returns the position in `nodes` of the master of a slot, according to any node that answers.
    ///
    /// # Panics
    ///
    /// Panics if there is none.
    #[must_use]
    pub fn master_of(&self, slot: u16) -> usize {
        let owns = |node: &RedisServer| {
            let nodes: String = node.try_query(&["CLUSTER", "NODES"]).unwrap_or_default();
            let own = nodes.lines().find(|line| line.contains("myself,master"));
            own.is_some_and(|line| line.split(' ').skip(8).any(|range| contains(range, slot)))
        };
        let found = self.nodes.iter().position(owns);
        found.expect("a master of the slot")
    }

    /// Returns the position in `nodes` of the replica of a master.
    ///
    /// # Panics
    ///
    /// Panics if it has none.
    #[must_use]
    pub fn replica_of(&self, master: usize) -> usize {
        let id = self.nodes[master].id();
        let nodes: String = self.nodes[master].query(&["CLUSTER", "NODES"]);
        let line =
            nodes.lines().find(|line| line.contains("slave") && line.contains(&format!(" {id} ")));
        let id = line.and_then(|line| line.split(' ').next()).expect("a replica");
        self.nodes.iter().position(|node| node.id() == id).expect("a node of ours")
    }

    /// Moves a slot with all its keys to another master, as `redis-cli --cluster reshard` does.
    ///
    /// # Panics
    ///
    /// Panics if a step fails.
    pub fn move_slot(&self, slot: u16, to: usize) {
        let from = self.master_of(slot);
        let number = slot.to_string();
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        target.run(&["CLUSTER", "SETSLOT", &number, "IMPORTING", &source.id()]);
        source.run(&["CLUSTER", "SETSLOT", &number, "MIGRATING", &target.id()]);
        loop {
            let keys: Vec<String> = source.query(&["CLUSTER", "GETKEYSINSLOT", &number, "2"]);
            if keys.is_empty() {
                break;
            }
            for key in &keys {
                let port = target.port().to_string();
                source.run(&["MIGRATE", "127.0.0.1", &port, key, "0", "2000"]);
            }
        }
        target.run(&["CLUSTER", "SETSLOT", &number, "NODE", &target.id()]);
        source.run(&["CLUSTER", "SETSLOT", &number, "NODE", &target.id()]);
    }
}

impl RedisServer {
    /// Returns the id of a node of a cluster.
    fn id(&self) -> String {
        self.query(&["CLUSTER", "MYID"])
    }
}

/// Returns whether a word of `CLUSTER NODES`, such as `0-99` or `7`, contains a slot.
fn contains(range: &str, slot: u16) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
}

fn start_node(args: &[&str]) -> RedisServer {
    // The usual port of the bus, 10,000 above the other one, may not exist.
    let bus = free_port().to_string();
    let common = [
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        "1000",
        "--cluster-replica-validity-factor",
        "0",
        "--repl-diskless-sync-delay",
        "0",
        "--cluster-port",
        &bus,
    ];
    let args: Vec<&str> = common.into_iter().chain(args.iter().copied()).collect();
    RedisServer::start_with(&args)
}

/// Returns the port of a node's bus.
fn bus(node: &RedisServer) -> String {
    let found: Vec<String> = node.query(&["CONFIG", "GET", "cluster-port"]);
    found.into_iter().nth(1).expect("a port")
}
