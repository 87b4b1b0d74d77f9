//! The root of the workspace, the target directory, and the packages with their dependencies.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::process::{cargo, variable};

/// Returns the root of the repository.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("invariant: xtask lies below the root").to_owned()
}

/// Returns a directory outside of the repository for what takes long to make: the one that `given`
/// names, or `name` in the cache of the user.
pub(crate) fn cache(given: &str, name: &str) -> Result<PathBuf> {
    let of_user = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let of_user = of_user.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")));
    let cache =
        variable(given).map(PathBuf::from).or_else(|| Some(of_user?.join("kahn").join(name)));
    cache.with_context(|| format!("name a directory in {given}"))
}

/// The output of `cargo metadata`.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) target_directory: PathBuf,
}

/// A package of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
}

/// A dependency of a package.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` for `[dependencies]`, otherwise `dev` or `build`.
    pub(crate) kind: Option<String>,
}

/// Runs `cargo metadata` offline.
pub(crate) fn metadata() -> Result<Metadata> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root())
        .output()
        .context("cannot start cargo metadata")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata failed: {complaint}");
    serde_json::from_slice(&output.stdout).context("cannot read cargo metadata")
}
