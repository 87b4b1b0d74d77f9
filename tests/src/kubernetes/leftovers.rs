//! Removes what a cluster has left on the machine, also if its process was killed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::commands::{output_of, run};
use super::network::HOSTS;
use super::node::CONTROL_GROUPS;

/// The file with the network namespaces that existed before.
const NAMESPACES: &str = "namespaces-before";
/// How the names of the processes begin; the system cuts names after 15 bytes.
const DAEMONS: [&str; 4] = ["etcd", "kubernetes", "coredns", "containerd"];
const NAMESPACE_DIR: &str = "/run/netns";

/// Returns the socket of the containerd of a node.
pub(super) fn socket(node: &Path) -> PathBuf {
    node.join("containerd.sock")
}

/// Returns a command that asks the containerd of a node.
pub(super) fn ctr_command(ctr: &Path, node: &Path) -> Command {
    let mut command = Command::new(ctr);
    command.arg("--address").arg(socket(node)).args(["--namespace", "k8s.io"]);
    command
}

/// Asks the containerd of a node.
pub(super) fn ctr(ctr: &Path, node: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    output_of(ctr_command(ctr, node).args(arguments))
}

/// Kills what runs in the containers of a node, which containerd itself would leave running.
pub(super) fn end_containers(program: &Path, node: &Path) {
    let tasks = ctr(program, node, &["tasks", "ls", "--quiet"]).unwrap_or_default();
    for task in tasks.lines() {
        // It may have ended meanwhile.
        drop(ctr(program, node, &["tasks", "rm", "--force", task]));
    }
}

/// Notes which network namespaces exist. Those of pods come later.
pub(super) fn note_namespaces(dir: &Path) -> anyhow::Result<()> {
    let names: Vec<String> = namespaces().into_iter().collect();
    Ok(std::fs::write(dir.join(NAMESPACES), names.join("\n"))?)
}

fn namespaces() -> BTreeSet<String> {
    let entries = std::fs::read_dir(NAMESPACE_DIR).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Removes processes, mounts, namespaces, control groups and files of a cluster in `dir`.
///
/// # Errors
///
/// Returns an error if the directory cannot be removed.
pub fn remove_leftovers(dir: &Path) -> anyhow::Result<()> {
    let Ok(dir) = dir.canonicalize() else { return Ok(()) };
    kill_processes(&dir);
    unmount(&dir);
    if let Ok(before) = std::fs::read_to_string(dir.join(NAMESPACES)) {
        let before: BTreeSet<&str> = before.lines().collect();
        let of_hosts = HOSTS.map(|host| host.name);
        for name in namespaces() {
            let is_ours = name.starts_with("cni-") && !before.contains(name.as_str());
            if is_ours || of_hosts.contains(&name.as_str()) {
                drop(run(&format!("ip netns del {name}")));
            }
        }
    }
    for host in &HOSTS {
        remove_control_groups(host.name);
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Kills the processes that work in `dir`, and those in the control groups of the nodes.
fn kill_processes(dir: &Path) {
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let is_known = DAEMONS.iter().any(|daemon| name.starts_with(daemon));
        let works_there = std::fs::read_link(entry.path().join("cwd"));
        if is_known && works_there.is_ok_and(|cwd| cwd.starts_with(dir)) {
            drop(run(&format!("kill -KILL {pid}")));
        }
    }
    for host in &HOSTS {
        for hierarchy in std::fs::read_dir(CONTROL_GROUPS).into_iter().flatten().flatten() {
            kill_group(&hierarchy.path().join(host.name));
        }
    }
}

fn kill_group(group: &Path) {
    let pids = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in pids.lines() {
        drop(run(&format!("kill -KILL {pid}")));
    }
    for child in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if child.path().is_dir() {
            kill_group(&child.path());
        }
    }
}

fn unmount(dir: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut points: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    points.retain(|point| Path::new(point).starts_with(dir));
    // The innermost first.
    points.sort_unstable_by(|a, b| b.cmp(a));
    for point in points {
        drop(output_of(Command::new("umount").arg("--lazy").arg(point)));
    }
}

fn remove_control_groups(name: &str) {
    for hierarchy in std::fs::read_dir(CONTROL_GROUPS).into_iter().flatten().flatten() {
        remove_group(&hierarchy.path().join(name));
    }
}

/// Removes a control group. A directory of one can be removed although it contains files.
fn remove_group(group: &Path) {
    for child in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if child.path().is_dir() {
            remove_group(&child.path());
        }
    }
    drop(std::fs::remove_dir(group));
}
