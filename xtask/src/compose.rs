//! `cargo xtask compose`: the image and `docker-compose.yml` on a private engine, without a registry.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::process::say;
use crate::workspace::{cache, root};
use crate::{checks, engine, hosts, machine, test};

/// Packages, and a program of each.
const PACKAGES: [(&str, &str); 3] = [
    ("docker.io", "/usr/sbin/dockerd"),
    ("docker-compose", "/usr/bin/docker-compose"),
    ("redis-server", "/usr/bin/redis-server"),
];
const SCRIPT: &str = include_str!("compose/on-engine.sh");

/// Builds the image with the binary of the tests, and starts everything.
pub(crate) fn run() -> Result<()> {
    ensure!(machine::is_root(), "only root can start an engine");
    machine::ensure_packages(&PACKAGES)?;
    let system = hosts::system(&cache("KAHN_HOSTS_DIR", "hosts")?)?;
    let built = test::build()?;
    let engine = engine::with_networks()?;
    let directory = system.with_file_name("compose");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    fs::write(directory.join("on-engine.sh"), SCRIPT)?;
    say("building the image and starting the cluster, which takes two minutes\n");
    let output = Command::new("bash")
        .arg(directory.join("on-engine.sh"))
        .arg(root())
        .arg(&system)
        .arg(built.join("kahn"))
        .arg(&directory)
        .env("DOCKER_HOST", format!("unix://{}", engine.socket().display()))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start bash")?;
    checks::judge(SCRIPT, &String::from_utf8_lossy(&output.stdout))
}
