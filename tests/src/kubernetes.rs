//! A real Kubernetes on one machine: etcd, the control plane, DNS, and two nodes that run
//! containers, all in network namespaces of their own.
//!
//! Needs root, and the programs that `cargo xtask kubernetes` builds and installs.

mod authority;
pub(crate) mod commands;
mod control_plane;
mod daemon;
mod image;
mod leftovers;
mod metrics;
mod network;
mod node;
mod programs;
mod volumes;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use crate::kubernetes::authority::Certificates;
use crate::kubernetes::commands::poll;
use crate::kubernetes::control_plane::ControlPlane;
use crate::kubernetes::network::{HOSTS, Network};
use crate::kubernetes::node::Node;

pub use image::Image;
pub use leftovers::remove_leftovers;
pub use programs::Programs;
pub use volumes::create_volumes;

/// A running cluster. Everything ends when it is dropped.
#[derive(Debug)]
pub struct Kubernetes {
    dir: PathBuf,
    programs: Programs,
    nodes: Vec<Node>,
    control_plane: Option<ControlPlane>,
    network: Option<Network>,
    earlier_chart: Option<PathBuf>,
}

impl Kubernetes {
    /// Starts a cluster that keeps its files in `dir`, and waits until both nodes are ready. What an
    /// earlier one with this directory has left is removed first.
    ///
    /// # Errors
    ///
    /// Returns an error that names what is missing or did not start.
    pub fn start(dir: &Path, programs: Programs) -> anyhow::Result<Self> {
        remove_leftovers(dir)?;
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let dir = dir.canonicalize()?;
        leftovers::note_namespaces(&dir)?;
        let mut cluster = Self {
            dir,
            programs,
            nodes: Vec::new(),
            control_plane: None,
            network: None,
            earlier_chart: None,
        };
        cluster.network = Some(Network::create()?);
        let certificates = Certificates::create(&cluster.dir.join("pki"))?;
        let control_plane = ControlPlane::start(&cluster.dir, &cluster.programs, &certificates)?;
        cluster.control_plane = Some(control_plane);
        for host in &HOSTS {
            cluster.nodes.push(Node::start(&cluster.dir, &cluster.programs, &certificates, host)?);
        }
        poll("two ready nodes", || {
            let nodes = cluster.kubectl(&["get", "nodes", "--no-headers"]);
            nodes.is_ok_and(|nodes| nodes.matches(" Ready").count() == HOSTS.len())
        })?;
        Ok(cluster)
    }

    /// Makes an image available on all nodes.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be built or imported.
    pub fn load(&self, image: &Image) -> anyhow::Result<()> {
        let archive = image.build(&self.dir.join("images"))?;
        self.nodes.iter().try_for_each(|node| node.import(&archive))
    }

    /// Takes the chart and the binary of an earlier version, from which releases are then upgraded.
    ///
    /// # Errors
    ///
    /// Returns an error if the image cannot be built.
    pub fn set_earlier(&mut self, chart: &Path, kahn: &Path) -> anyhow::Result<()> {
        self.load(
            &Image::new("kahn.test/kahn:earlier", &["kahn"]).with(kahn, "/usr/local/bin/kahn"),
        )?;
        self.earlier_chart = Some(chart.to_owned());
        Ok(())
    }

    pub(crate) fn earlier_chart(&self) -> Option<PathBuf> {
        self.earlier_chart.clone()
    }

    /// Returns a command that reaches the cluster, such as `helm` or `kubectl`.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = HOSTS[0].command(&self.programs.path(program));
        command.env("KUBECONFIG", self.dir.join("admin.conf"));
        command
    }

    /// Runs `kubectl`, and returns what it prints.
    ///
    /// # Errors
    ///
    /// Returns an error with its message if it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run("kubectl", arguments)
    }

    /// Runs `helm`, and returns what it prints.
    ///
    /// # Errors
    ///
    /// Returns an error with its message if it fails.
    pub fn helm(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run("helm", arguments)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(program).args(arguments).output()?;
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{program} {}: {err}{out}", arguments.join(" "));
        Ok(out.into_owned())
    }

    /// Stops the API server for a while, as if the network cut it off.
    ///
    /// # Errors
    ///
    /// Returns an error if there is none.
    pub fn cut_off_api_server(&self, span: Duration) -> anyhow::Result<()> {
        let control_plane = self.control_plane.as_ref().context("no control plane")?;
        control_plane.server.signal("STOP")?;
        let since = Instant::now();
        let over = poll("the end of the fault", || span <= since.elapsed());
        control_plane.server.signal("CONT")?;
        over?;
        poll("the API server", || self.kubectl(&["get", "--raw", "/readyz"]).is_ok())
    }

    /// Kills the process of a container, which Kubernetes then starts again.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such container.
    pub fn kill_container(&self, namespace: &str, pod: &str, name: &str) -> anyhow::Result<()> {
        let path =
            format!("jsonpath={{.status.containerStatuses[?(@.name==\"{name}\")].containerID}}");
        let query = ["--namespace", namespace, "get", "pod", pod, "--output", &path];
        let id = self.kubectl(&query)?;
        let id = id.trim_start_matches("containerd://");
        let was_killed = self.nodes.iter().any(|node| node.kill_container(id).is_ok());
        ensure!(was_killed, "no node has the container {id:?} of {pod}");
        Ok(())
    }

    /// Stops the kubelet of a node until the returned value is dropped, as if the node were lost.
    /// Its containers go on.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such node.
    pub fn freeze_node(&self, name: &str) -> anyhow::Result<Frozen<'_>> {
        let node = self.nodes.iter().find(|node| node.name() == name);
        let node = node.with_context(|| format!("no node {name}"))?;
        node.signal_kubelet("STOP")?;
        Ok(Frozen(node))
    }

    /// Writes a file beside those of the cluster, and returns its path.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Checks a manifest as the server would when it creates the objects.
    ///
    /// # Errors
    ///
    /// Returns an error with the message of the server if it refuses them.
    pub fn check_manifest(&self, manifest: &str) -> anyhow::Result<()> {
        let file = self.write("check.yaml", manifest)?.display().to_string();
        self.kubectl(&["apply", "--dry-run=server", "--filename", &file]).map(drop)
    }

    /// Creates objects from a manifest.
    ///
    /// # Errors
    ///
    /// Returns an error with the message of the server if it refuses them.
    pub fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        let file = self.write("apply.yaml", manifest)?.display().to_string();
        self.kubectl(&["apply", "--server-side", "--filename", &file]).map(drop)
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        // Nodes first: otherwise they start again what ends.
        self.nodes.clear();
        self.control_plane = None;
        self.network = None;
        // What fails here is removed by the next start.
        drop(remove_leftovers(&self.dir));
    }
}

/// A node whose kubelet is stopped until this is dropped.
#[derive(Debug)]
pub struct Frozen<'a>(&'a Node);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        // The kubelet may have been killed meanwhile.
        drop(self.0.signal_kubelet("CONT"));
    }
}
