//! etcd, the API server, the controller manager, the scheduler, and DNS.

use std::path::Path;
use std::process::Command;

use super::authority::Certificates;
use super::commands::{output_of, poll};
use super::daemon::Daemon;
use super::network::HOSTS;
use super::programs::Programs;

/// The address of DNS within the cluster.
pub(super) const DNS_IP: &str = "10.96.0.10";

/// The processes, of which those that depend on others end first.
#[derive(Debug)]
pub(super) struct ControlPlane {
    _clients: Vec<Daemon>,
    pub(super) server: Daemon,
    _etcd: Daemon,
}

impl ControlPlane {
    pub(super) fn start(
        dir: &Path,
        programs: &Programs,
        certificates: &Certificates,
    ) -> anyhow::Result<Self> {
        let host = &HOSTS[0];
        let start = |name: &str, program: &str, arguments: &[String]| {
            let mut command = host.command(&programs.path(program));
            command.args(arguments).current_dir(dir);
            Daemon::start(dir, name, command)
        };
        let etcd = start("etcd", "etcd", &words("--data-dir etcd --unsafe-no-fsync"))?;
        let mut server = start("kube-apiserver", "kubernetes", &server(certificates))?;
        let config = dir.join("admin.conf");
        std::fs::write(&config, client_config(certificates))?;
        let kubectl = || {
            let mut kubectl = host.command(&programs.path("kubectl"));
            kubectl.env("KUBECONFIG", &config);
            kubectl
        };
        poll("the API server", || !server.is_running() || is_ready(kubectl()))?;
        server.check()?;

        let common = "--kubeconfig admin.conf --bind-address 127.0.0.1 --leader-elect=false";
        let accounts = certificates.file("accounts.key").display().to_string();
        let ca = certificates.file("ca.crt").display().to_string();
        let manager = words(&format!(
            "kube-controller-manager {common} --service-account-private-key-file {accounts} \
             --root-ca-file {ca} --use-service-account-credentials \
             --horizontal-pod-autoscaler-sync-period 2s"
        ));
        let corefile = dir.join("Corefile");
        std::fs::write(&corefile, dns_config(&config))?;
        let clients = vec![
            start("kube-controller-manager", "kubernetes", &manager)?,
            start("kube-scheduler", "kubernetes", &words(&format!("kube-scheduler {common}")))?,
            start("coredns", "coredns", &words("-conf Corefile"))?,
        ];
        let service = dir.join("dns.yaml");
        std::fs::write(&service, dns_service())?;
        output_of(kubectl().args(["apply", "--server-side", "--filename"]).arg(service))?;
        Ok(Self { _clients: clients, server, _etcd: etcd })
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn server(certificates: &Certificates) -> Vec<String> {
    let file = |name: &str| certificates.file(name).display().to_string();
    let ip = HOSTS[0].ip;
    words(&format!(
        "kube-apiserver --etcd-servers http://127.0.0.1:2379 --bind-address {ip} \
         --advertise-address {ip} --secure-port 6443 --tls-cert-file {} \
         --tls-private-key-file {} --client-ca-file {} \
         --kubelet-preferred-address-types InternalIP --kubelet-client-certificate {} \
         --kubelet-client-key {} --service-account-key-file {} \
         --service-account-signing-key-file {} \
         --service-account-issuer https://kubernetes.default.svc \
         --service-cluster-ip-range 10.96.0.0/16 --authorization-mode Node,RBAC \
         --allow-privileged --requestheader-client-ca-file {} \
         --requestheader-allowed-names front-proxy --proxy-client-cert-file {} \
         --proxy-client-key-file {} --requestheader-username-headers X-Remote-User \
         --requestheader-group-headers X-Remote-Group \
         --requestheader-extra-headers-prefix X-Remote-Extra-",
        file("server.crt"),
        file("server.key"),
        file("ca.crt"),
        file("admin.crt"),
        file("admin.key"),
        file("accounts.pub"),
        file("accounts.key"),
        file("ca.crt"),
        file("front-proxy.crt"),
        file("front-proxy.key"),
    ))
}

fn is_ready(mut kubectl: Command) -> bool {
    output_of(kubectl.args(["get", "--raw", "/readyz"])).is_ok()
}

fn client_config(certificates: &Certificates) -> String {
    let file = |name: &str| certificates.file(name).display().to_string();
    let (ca, certificate, key) = (file("ca.crt"), file("admin.crt"), file("admin.key"));
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n\
         - name: test\n  cluster: {{ server: 'https://{}:6443', certificate-authority: {ca} }}\n\
         users:\n- name: admin\n  user: {{ client-certificate: {certificate}, client-key: {key} }}\n\
         contexts:\n- name: test\n  context: {{ cluster: test, user: admin }}\n\
         current-context: test\n",
        HOSTS[0].ip
    )
}

fn dns_config(client_config: &Path) -> String {
    format!(
        ".:53 {{\n  bind {}\n  errors\n  kubernetes cluster.local in-addr.arpa {{\n    \
         kubeconfig {} test\n    pods insecure\n  }}\n}}\n",
        HOSTS[0].ip,
        client_config.display()
    )
}

/// A Service whose only endpoint is outside of any pod.
fn dns_service() -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: kube-dns, namespace: kube-system }}\n\
         spec:\n  clusterIP: {DNS_IP}\n  ports:\n  - {{ name: dns, port: 53, protocol: UDP }}\n  \
         - {{ name: dns-tcp, port: 53, protocol: TCP }}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata:\n  name: kube-dns\n  namespace: kube-system\n  \
         labels: {{ kubernetes.io/service-name: kube-dns }}\n\
         addressType: IPv4\nendpoints: [{{ addresses: ['{}'] }}]\n\
         ports:\n- {{ name: dns, port: 53, protocol: UDP }}\n\
         - {{ name: dns-tcp, port: 53, protocol: TCP }}\n",
        HOSTS[0].ip
    )
}
