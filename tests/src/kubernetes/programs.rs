//! The programs of the cluster.

use std::path::{Path, PathBuf};

use anyhow::ensure;

use super::metrics;

/// Programs that are built or unpacked into a directory. All others are packages of the system.
const BUILT: [&str; 7] = [
    "kubernetes",
    "coredns",
    "kubectl",
    "helm",
    "keda-operator",
    "keda-adapter",
    "prometheus-adapter",
];
const PACKAGED: [&str; 9] =
    ["etcd", "containerd", "ctr", "runc", "iptables", "ip", "nsenter", "busybox", "prometheus"];
const PATH: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs(PathBuf);

impl Programs {
    /// Finds all programs. `built` has those that no package has.
    ///
    /// # Errors
    ///
    /// Returns an error that names the one that is missing.
    pub fn find(built: &Path) -> anyhow::Result<Self> {
        let programs = Self(built.to_owned());
        for name in BUILT.iter().chain(&PACKAGED) {
            let path = programs.path(name);
            ensure!(
                path.is_file(),
                "{} is missing: cargo xtask kubernetes installs it",
                path.display()
            );
        }
        metrics::check_crds(&programs.keda_crds())?;
        Ok(programs)
    }

    /// Returns the directory with the definitions of KEDA's objects.
    pub(super) fn keda_crds(&self) -> PathBuf {
        self.0.with_file_name("keda").join("crds")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        if BUILT.contains(&name) {
            return self.0.join(name);
        }
        let found = PATH.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.is_file());
        found.unwrap_or_else(|| PathBuf::from(name))
    }
}
