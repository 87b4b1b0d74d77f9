//! A master, its replicas and sentinels, for a test.

use super::server::RedisServer;
use super::wait::wait_until;

/// The name under which the sentinels know the master.
const NAME: &str = "kahn-test";
const N_REPLICAS: usize = 2;
const N_SENTINELS: usize = 3;

/// A master with two replicas, watched over by three sentinels. All are killed on drop.
#[derive(Debug)]
pub struct SentinelSetup {
    /// The servers, the first master first.
    pub servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl SentinelSetup {
    /// Starts all processes, and waits until the sentinels know each other and the replicas.
    /// `args` are added to the arguments of the master and the replicas.
    ///
    /// # Panics
    ///
    /// Panics if there is no redis-server, or it does not start.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        let common = ["--repl-diskless-sync-delay", "0", "--databases", "64"];
        let args: Vec<&str> = common.iter().chain(args).copied().collect();
        let master = RedisServer::start_with(&args);
        let port = master.port().to_string();
        let of_replica: Vec<&str> =
            args.iter().copied().chain(["--replicaof", "127.0.0.1", &port]).collect();
        let replicas = (0..N_REPLICAS).map(|_| RedisServer::start_with(&of_replica));
        let servers: Vec<RedisServer> = [master].into_iter().chain(replicas).collect();
        wait_until("replicas of the master", || n_online_replicas(&servers[0]) == N_REPLICAS);
        let sentinels = (0..N_SENTINELS).map(|_| start_sentinel(&port)).collect();
        let setup = Self { servers, sentinels };
        for sentinel in &setup.sentinels {
            wait_until("sentinels that know each other", || setup.is_complete(sentinel));
        }
        setup
    }

    fn is_complete(&self, sentinel: &RedisServer) -> bool {
        let known: Vec<String> = sentinel.query(&["SENTINEL", "MASTER", NAME]);
        let field = |name: &str| {
            let mut pairs = known.chunks_exact(2).filter(|pair| pair[0] == name);
            pairs.next().and_then(|pair| pair[1].parse::<usize>().ok())
        };
        field("num-slaves") == Some(N_REPLICAS)
            && field("num-other-sentinels") == Some(self.sentinels.len() - 1)
    }

    /// Returns the URL for the configuration.
    #[must_use]
    pub fn url(&self, database: u32) -> String {
        let hosts: Vec<String> =
            self.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port())).collect();
        format!("redis+sentinel://{}/{NAME}/{database}", hosts.join(","))
    }

    /// Returns the port of the master, once all sentinels agree on it.
    ///
    /// # Panics
    ///
    /// Panics if they do not agree for a long time.
    #[must_use]
    pub fn master_port(&self) -> u16 {
        let command = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
        let mut agreed = 0;
        wait_until("sentinels that agree", || {
            let answers = self.sentinels.iter().filter_map(|one| one.try_query(&command).ok());
            let mut ports: Vec<u16> = answers.map(|(_, port): (String, u16)| port).collect();
            ports.dedup();
            agreed = ports.first().copied().unwrap_or_default();
            ports.len() == 1
        });
        agreed
    }

    /// Returns the current master.
    ///
    /// # Panics
    ///
    /// Panics if no sentinel answers.
    #[must_use]
    pub fn master(&mut self) -> &mut RedisServer {
        let port = self.master_port();
        self.servers.iter_mut().find(|one| one.port() == port).expect("a server of ours")
    }

    /// Waits until the current master has all other servers as replicas again.
    ///
    /// # Panics
    ///
    /// Panics if this takes too long.
    pub fn wait_until_whole(&mut self) {
        wait_until("a master with all its replicas", || {
            let master = self.master();
            master.is_master() && n_online_replicas(master) == N_REPLICAS
        });
        for sentinel in &self.sentinels {
            wait_until("sentinels that see all up", || {
                let replicas: Vec<Vec<String>> = sentinel.query(&["SENTINEL", "REPLICAS", NAME]);
                let is_up =
                    |one: &Vec<String>| one.chunks_exact(2).any(|pair| pair == ["flags", "slave"]);
                replicas.len() == N_REPLICAS && replicas.iter().all(is_up)
            });
        }
    }

    /// Starts a former master again, as a replica of the current one.
    ///
    /// Sentinels would do the same, but only after they have seen for eight seconds that it takes
    /// itself for a master.
    ///
    /// # Panics
    ///
    /// Panics if it does not start.
    pub fn restart(&mut self, former: u16) {
        let master = self.master_port().to_string();
        let server = self.servers.iter_mut().find(|one| one.port() == former);
        let server = server.expect("a server of ours");
        server.restart();
        server.run(&["REPLICAOF", "127.0.0.1", &master]);
    }

    /// Asks a sentinel for a failover while the master is up.
    ///
    /// # Panics
    ///
    /// Panics if no failover can be started for a long time.
    pub fn fail_over(&self) {
        wait_until("a failover that can be started", || {
            self.sentinels[0].try_query::<String>(&["SENTINEL", "FAILOVER", NAME]).is_ok()
        });
    }

    /// Makes a replica a master without the knowledge of the sentinels or of its former master.
    ///
    /// # Panics
    ///
    /// Panics if the command fails.
    pub fn promote_silently(&self, replica: usize) {
        self.servers[replica].run(&["REPLICAOF", "NO", "ONE"]);
    }

    /// Makes the sentinels name another master, as if the former one was cut off from them.
    ///
    /// # Panics
    ///
    /// Panics if a command fails.
    pub fn announce(&self, master: usize) {
        let port = self.servers[master].port().to_string();
        for sentinel in &self.sentinels {
            sentinel.run(&["SENTINEL", "REMOVE", NAME]);
            sentinel.run(&["SENTINEL", "MONITOR", NAME, "127.0.0.1", &port, "2"]);
        }
    }

    /// Runs a command at each sentinel.
    ///
    /// # Panics
    ///
    /// Panics if it fails.
    pub fn tell_sentinels(&self, command: &[&str]) {
        for sentinel in &self.sentinels {
            sentinel.run(command);
        }
    }

    /// Stops a sentinel.
    ///
    /// # Panics
    ///
    /// Panics if there is no such sentinel.
    pub fn kill_sentinel(&mut self, n: usize) {
        self.sentinels[n].kill9();
    }
}

fn n_online_replicas(server: &RedisServer) -> usize {
    let info: String = server.try_query(&["INFO", "replication"]).unwrap_or_default();
    info.matches("state=online").count()
}

fn start_sentinel(master_port: &str) -> RedisServer {
    RedisServer::start_sentinel(&format!(
        "sentinel monitor {NAME} 127.0.0.1 {master_port} 2\n\
         sentinel down-after-milliseconds {NAME} 700\n\
         sentinel failover-timeout {NAME} 3000\n\
         sentinel parallel-syncs {NAME} 2\n"
    ))
}
