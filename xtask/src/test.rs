//! `cargo xtask test`: every test there is, against the binary that users get.

use std::path::PathBuf;

use anyhow::Result;

use crate::process::{self, cargo, say, variable};
use crate::workspace::{metadata, root};
use crate::{engine, machine};

/// The variable that names recorded workflows for the scheduler's tests.
const WORKFLOWS_VARIABLE: &str = "KAHN_WORKFLOWS";

/// Runs all tests, doctests included, or those whose name contains `filter`.
pub(crate) fn run(filter: Option<&str>) -> Result<()> {
    machine::ensure_redis()?;
    let packages = ["--package", "kahn-cli", "--package", "kahn-example-worker"];
    process::run(cargo().args(["build", "--release"]).args(packages).current_dir(root()))?;
    let built = metadata()?.target_directory.join("release");
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--no-fail-fast"]).args(filter).current_dir(root());
    tests.env("KAHN_BIN", built.join("kahn"));
    tests.env("KAHN_EXAMPLE_WORKER", built.join("kahn-example-worker"));
    if let Some(workflows) = workflows() {
        tests.env(WORKFLOWS_VARIABLE, workflows);
    }
    let engine = engine::ensure_engine();
    match &engine {
        Ok(engine) => tests.env(engine::VARIABLE, engine.socket()),
        Err(_) => tests.env_remove(engine::VARIABLE),
    };
    let tested = process::run(&mut tests);
    if let Err(why) = engine {
        say(&format!("NOT RUN: container tests: {why:#}\n"));
    }
    tested
}

/// The recorded workflows: named by the caller, or beside the repository.
fn workflows() -> Option<PathBuf> {
    variable(WORKFLOWS_VARIABLE).map(PathBuf::from).or_else(|| {
        root().parent().map(|beside| beside.join("shared/workflows")).filter(|path| path.is_dir())
    })
}
