//! `cargo xtask ci`: exactly what CI runs, in the order of what fails fastest.

use anyhow::Result;

use crate::process::{self, cargo};
use crate::workspace::root;
use crate::{fuzz, machine, sim, test, tidy};

/// Runs every check; the first that fails ends it.
pub(crate) fn run() -> Result<()> {
    machine::ensure_components()?;
    process::run(cargo().args(["fmt", "--all", "--check"]).current_dir(root()))?;
    let lints = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    process::run(cargo().args(lints).current_dir(root()))?;
    tidy::run()?;
    test::run(None)?;
    sim::run(&sim::Seeds::First(sim::CI_SEEDS))?;
    fuzz::run(fuzz::CI_SECONDS)
}
