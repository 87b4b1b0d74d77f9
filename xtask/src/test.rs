//! `cargo xtask test`: every test there is, against the binary that users get.

use std::path::PathBuf;

use anyhow::Result;

use crate::machine;
use crate::process::{self, cargo, variable};
use crate::workspace::{metadata, root};

/// The variable that names recorded workflows for the scheduler's tests.
const WORKFLOWS_VARIABLE: &str = "KAHN_WORKFLOWS";

/// Runs all tests, doctests included, or those whose name contains `filter`.
pub(crate) fn run(filter: Option<&str>) -> Result<()> {
    machine::ensure_redis()?;
    process::run(
        cargo().args(["build", "--release", "--package", "kahn-cli"]).current_dir(root()),
    )?;
    let binary = metadata()?.target_directory.join("release/kahn");
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--no-fail-fast"]).args(filter).current_dir(root());
    tests.env("KAHN_BIN", binary);
    if let Some(workflows) = workflows() {
        tests.env(WORKFLOWS_VARIABLE, workflows);
    }
    process::run(&mut tests)
}

/// The recorded workflows: named by the caller, or beside the repository.
fn workflows() -> Option<PathBuf> {
    variable(WORKFLOWS_VARIABLE).map(PathBuf::from).or_else(|| {
        root().parent().map(|beside| beside.join("shared/workflows")).filter(|path| path.is_dir())
    })
}
