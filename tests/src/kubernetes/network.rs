//! Two hosts as network namespaces, connected with each other and with nothing else.

use std::path::Path;
use std::process::Command;

use super::commands::run;

/// A network namespace that is a host of the cluster.
#[derive(Debug)]
pub(super) struct Host {
    /// The name of the namespace and of the node.
    pub(super) name: &'static str,
    pub(super) ip: &'static str,
    /// The subnet of its pods.
    pub(super) pods: &'static str,
    /// The name of the network of its pods, and of the bridge.
    pub(super) bridge: &'static str,
}

/// The hosts. The control plane runs on the first one.
pub(super) const HOSTS: [Host; 2] = [
    Host { name: "kahn-node-1", ip: "10.78.0.1", pods: "10.77.0.0/24", bridge: "kahn1" },
    Host { name: "kahn-node-2", ip: "10.79.0.2", pods: "10.77.1.0/24", bridge: "kahn2" },
];

/// The address of the first host for the second one.
const GATEWAY: &str = "10.79.0.1";

impl Host {
    /// Returns a command that runs on the host. `ip netns exec` would hide the control groups.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
    }

    fn run(&self, line: &str) -> anyhow::Result<String> {
        run(&format!("nsenter --net=/run/netns/{} {line}", self.name))
    }
}

/// The namespaces, which are removed on drop.
#[derive(Debug)]
pub(super) struct Network(());

impl Network {
    pub(super) fn create() -> anyhow::Result<Self> {
        let [first, second] = &HOSTS;
        for host in &HOSTS {
            run(&format!("ip netns add {}", host.name))?;
            host.run("ip link set lo up")?;
        }
        let network = Self(());
        // The address of the first host must be one of an interface that is not the loopback.
        first.run("ip link add node0 type veth peer name node1")?;
        first.run("ip link set node1 up")?;
        first.run(&format!("ip addr add {}/24 dev node0", first.ip))?;
        first.run("ip link set node0 up")?;
        first.run("ip route add default dev node0")?;

        run("ip link add kahn-ab type veth peer name kahn-ba")?;
        run(&format!("ip link set kahn-ab netns {}", first.name))?;
        run(&format!("ip link set kahn-ba netns {}", second.name))?;
        first.run(&format!("ip addr add {GATEWAY}/24 dev kahn-ab"))?;
        first.run("ip link set kahn-ab up")?;
        second.run(&format!("ip addr add {}/24 dev kahn-ba", second.ip))?;
        second.run("ip link set kahn-ba up")?;
        second.run(&format!("ip route add default via {GATEWAY}"))?;
        first.run(&format!("ip route add {} via {}", second.pods, second.ip))?;
        for host in &HOSTS {
            host.run("sysctl -qw net.ipv4.ip_forward=1")?;
        }
        Ok(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &HOSTS {
            // A namespace that is in use is removed with its last process.
            drop(run(&format!("ip netns del {}", host.name)));
        }
    }
}
