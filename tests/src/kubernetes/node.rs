//! A node: containerd, the kubelet and kube-proxy.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::authority::Certificates;
use super::commands::{output_of, poll};
use super::control_plane::DNS_IP;
use super::daemon::Daemon;
use super::image::pause;
use super::leftovers;
use super::network::Host;
use super::programs::Programs;

/// Where control groups are. Each version 1 hierarchy is a directory in it.
pub(super) const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// The processes of a node, and what runs in its containers.
#[derive(Debug)]
pub(super) struct Node {
    dir: PathBuf,
    ctr: PathBuf,
    kubelet: Option<Daemon>,
    others: Vec<Daemon>,
}

impl Node {
    pub(super) fn start(
        cluster: &Path,
        programs: &Programs,
        certificates: &Certificates,
        host: &Host,
    ) -> anyhow::Result<Self> {
        let dir = cluster.join(host.name);
        std::fs::create_dir_all(dir.join("cni"))?;
        create_control_groups(host.name)?;
        let write = |name: &str, text: String| std::fs::write(dir.join(name), text);
        write("containerd.toml", containerd_config(&dir))?;
        write("cni/10-pods.conflist", pod_network(host))?;
        write("kubelet.yaml", kubelet_config(&dir, certificates, host))?;

        let start = |name: &str, program: &str, line: &str| {
            let mut command = host.command(&programs.path(program));
            command.args(line.split_whitespace()).current_dir(&dir);
            Daemon::start(&dir, name, command)
        };
        let mut node =
            Self { dir: dir.clone(), ctr: programs.path("ctr"), kubelet: None, others: Vec::new() };
        node.others.push(start("containerd", "containerd", "--config containerd.toml")?);
        poll("containerd", || leftovers::ctr(&node.ctr, &node.dir, &["version"]).is_ok())?;
        node.import(&pause().build(&cluster.join("images"))?)?;
        let config = cluster.join("admin.conf").display().to_string();
        let kubelet = format!(
            "kubelet --config kubelet.yaml --kubeconfig {config} --hostname-override {} --node-ip {} \
             --root-dir {} --cert-dir certs",
            host.name,
            host.ip,
            dir.join("root").display()
        );
        node.kubelet = Some(start("kubelet", "kubernetes", &kubelet)?);
        let proxy = format!(
            "kube-proxy --kubeconfig {config} --hostname-override {} --proxy-mode iptables \
             --cluster-cidr 10.77.0.0/16 --conntrack-max-per-core 0 \
             --conntrack-tcp-timeout-established 0 --conntrack-tcp-timeout-close-wait 0",
            host.name
        );
        node.others.push(start("kube-proxy", "kubernetes", &proxy)?);
        Ok(node)
    }

    /// Returns its name.
    pub(super) fn name(&self) -> &str {
        self.dir.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Kills the process of a container.
    pub(super) fn kill_container(&self, id: &str) -> anyhow::Result<()> {
        let kill = ["tasks", "kill", "--signal", "SIGKILL", id];
        leftovers::ctr(&self.ctr, &self.dir, &kill).map(drop)
    }

    /// Sends a signal to the kubelet.
    pub(super) fn signal_kubelet(&self, name: &str) -> anyhow::Result<()> {
        self.kubelet.as_ref().context("no kubelet")?.signal(name)
    }

    /// Makes the image in an archive available to pods.
    pub(super) fn import(&self, archive: &Path) -> anyhow::Result<()> {
        let mut command = leftovers::ctr_command(&self.ctr, &self.dir);
        output_of(command.args(["images", "import"]).arg(archive)).map(drop)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Otherwise the kubelet would start again what ends.
        self.kubelet = None;
        leftovers::end_containers(&self.ctr, &self.dir);
        self.others.clear();
    }
}

/// Creates the control group of the node in every hierarchy.
fn create_control_groups(name: &str) -> anyhow::Result<()> {
    for hierarchy in std::fs::read_dir(CONTROL_GROUPS)?.flatten() {
        let group = hierarchy.path().join(name);
        if !hierarchy.path().is_dir() || std::fs::create_dir_all(&group).is_err() {
            continue;
        }
        // A group without processors and memory can have no processes.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = std::fs::read_to_string(hierarchy.path().join(file)) {
                std::fs::write(group.join(file), all)?;
            }
        }
    }
    Ok(())
}

fn containerd_config(dir: &Path) -> String {
    let at = |name: &str| dir.join(name).display().to_string();
    format!(
        r#"version = 2
root = "{}"
state = "{}"
[grpc]
address = "{}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#,
        at("containerd"),
        at("state"),
        leftovers::socket(dir).display(),
        pause().name(),
        at("cni"),
    )
}

fn pod_network(host: &Host) -> String {
    format!(
        r#"{{"cniVersion": "1.0.0", "name": "{name}", "plugins": [
  {{"type": "bridge", "bridge": "{name}", "isGateway": true, "ipMasq": false, "ipam": {{
    "type": "host-local", "ranges": [[{{"subnet": "{}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}
"#,
        host.pods,
        name = host.bridge,
    )
}

/// The limits of this machine do not matter: nothing is evicted, and no control group of version 2
/// is needed.
fn kubelet_config(dir: &Path, certificates: &Certificates, host: &Host) -> String {
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{ enabled: false }}
  x509: {{ clientCAFile: {} }}
  webhook: {{ enabled: false }}
authorization: {{ mode: AlwaysAllow }}
address: {}
cgroupRoot: /{}
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
evictionHard: {{ memory.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0% }}
imageGCHighThresholdPercent: 100
containerRuntimeEndpoint: unix://{}
podLogsDir: {}
clusterDNS: [{DNS_IP}]
clusterDomain: cluster.local
",
        certificates.file("ca.crt").display(),
        host.ip,
        host.name,
        leftovers::socket(dir).display(),
        dir.join("pod-logs").display(),
    )
}
