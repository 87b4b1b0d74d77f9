//! `cargo xtask test`: runs every test, the end-to-end tests against the binary of the same build.

use std::path::PathBuf;

use anyhow::Result;

use crate::process::{self, cargo, say, variable};
use crate::workspace::{metadata, root};
use crate::{engine, machine};

/// The variable that names a folder of recorded workflows, an extra for the tests of imports.
const WORKFLOWS_VARIABLE: &str = "KAHN_WORKFLOWS";

/// Builds all binaries and tests, installs what they need, and returns the directory of the
/// binaries.
pub(crate) fn build() -> Result<PathBuf> {
    machine::ensure_redis()?;
    // A single invocation for tests and binaries. In separate builds, dependencies would have
    // different features and would be compiled twice.
    let targets = ["--lib", "--bins", "--tests"];
    process::run(cargo().args(["build", "--workspace"]).args(targets).current_dir(root()))?;
    Ok(metadata()?.target_directory.join("debug"))
}

/// Runs all tests, including doctests, or those whose name contains `filter`.
pub(crate) fn run(filter: Option<&str>) -> Result<()> {
    let built = build()?;
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--no-fail-fast"]).args(filter).current_dir(root());
    tests.env("KAHN_BIN", built.join("kahn"));
    tests.env("KAHN_EXAMPLE_WORKER", built.join("kahn-example-worker"));
    let mut missing = Vec::new();
    match variable(WORKFLOWS_VARIABLE) {
        Some(folder) => {
            say(&format!("recorded workflows: those of {} are imported too\n", folder.display()))
        }
        None => missing.push(format!("recorded workflows: {WORKFLOWS_VARIABLE} names no folder")),
    }
    let engine = engine::ensure_engine();
    match &engine {
        Ok(engine) => drop(tests.env(engine::VARIABLE, engine.socket())),
        Err(why) => {
            tests.env_remove(engine::VARIABLE);
            missing.push(format!("container tests: {why:#}"));
        }
    }
    let tested = process::run(&mut tests);
    for extra in missing {
        say(&format!("NOT RUN: {extra}\n"));
    }
    tested
}
