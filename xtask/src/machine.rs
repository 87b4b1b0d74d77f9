//! Prerequisites beside cargo, which are installed if permitted and asked for otherwise.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{cargo, run, say, succeeds};

/// Makes sure that `redis-server` exists, because some tests start their own.
pub(crate) fn ensure_redis() -> Result<()> {
    if succeeds("redis-server", &["--version"]) {
        return Ok(());
    }
    if !may_install() {
        bail!(
            "tests need redis-server, which is not installed; \
             install it with: sudo apt-get install redis-server (or: brew install redis)"
        );
    }
    install("redis-server", "redis-server")
}

/// Returns whether packages may be installed here.
pub(crate) fn may_install() -> bool {
    is_root() && succeeds("apt-get", &["--version"])
}

pub(crate) fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n")
}

/// Installs a package that provides a program.
pub(crate) fn install(package: &str, program: &str) -> Result<()> {
    say(&format!("{program} is missing; installing it\n"));
    run(Command::new("apt-get").args(["update", "--quiet"]))?;
    let install = ["install", "--quiet", "--yes", "--no-install-recommends", package];
    run(Command::new("apt-get").args(install).env("DEBIAN_FRONTEND", "noninteractive"))
        .with_context(|| format!("cannot install {program}"))
}

/// Installs packages, given with a file of each, unless their files exist.
///
/// # Errors
///
/// Returns an error that names the package that is missing, if it may not be installed here.
pub(crate) fn ensure_packages(packages: &[(&str, &str)]) -> Result<()> {
    for (package, file) in packages {
        if !Path::new(file).exists() {
            ensure!(may_install(), "install the package {package}, which has {file}");
            install(package, file)?;
        }
    }
    Ok(())
}

/// Ensures that the toolchain has a component, which provides `cargo <subcommand>`.
///
/// # Errors
///
/// Returns an error if it is missing and cannot be installed.
pub(crate) fn ensure_component(component: &str, subcommand: &str) -> Result<()> {
    let found = cargo().args([subcommand, "--version"]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    run(Command::new("rustup").args(["component", "add", component]))
        .with_context(|| format!("cargo {subcommand} is missing, and so is {component}"))
}
