//! `cargo xtask sim`: runs the simulator over many seeds, or over a single one.

use anyhow::{Context, Result, bail};

use crate::process::{cargo, run as run_command};
use crate::workspace::root;

/// The number of seeds in CI.
pub(crate) const CI_SEEDS: u64 = 10_000;

/// The seeds to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seeds {
    /// The first N seeds.
    First(u64),
    /// Only this seed.
    Only(u64),
}

impl Seeds {
    /// Parses `--seeds N` or `--seed S`. The default is that of CI.
    pub(crate) fn parse(options: &[&str]) -> Result<Self> {
        let number = |text: &str| {
            text.parse::<u64>()
                .with_context(|| format!("{text:?} is not a number of seeds or a seed"))
        };
        match *options {
            [] => Ok(Self::First(CI_SEEDS)),
            ["--seeds", count] => Ok(Self::First(number(count)?)),
            ["--seed", seed] => Ok(Self::Only(number(seed)?)),
            _ => bail!("usage: cargo xtask sim [--seeds N | --seed S]"),
        }
    }

    fn variable(&self) -> (&'static str, u64) {
        match *self {
            Self::First(count) => ("KAHN_SIM_SEEDS", count),
            Self::Only(seed) => ("KAHN_SIM_SEED", seed),
        }
    }
}

/// Runs the simulator. It uses the same build options as the other tests to avoid a second build;
/// the simulated crates are optimised in these, too.
pub(crate) fn run(seeds: &Seeds) -> Result<()> {
    let (variable, value) = seeds.variable();
    let arguments = ["test", "--workspace", "--test", "seeds", "--", "--nocapture"];
    run_command(cargo().args(arguments).env(variable, value.to_string()).current_dir(root()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_read_from_the_command_line() {
        assert_eq!(Seeds::parse(&[]).unwrap(), Seeds::First(CI_SEEDS));
        assert_eq!(Seeds::parse(&["--seeds", "9"]).unwrap(), Seeds::First(9));
        assert_eq!(Seeds::parse(&["--seed", "42"]).unwrap(), Seeds::Only(42));
    }

    #[test]
    fn anything_else_is_refused() {
        for options in [&["--seed"][..], &["--seed", "x"], &["42"]] {
            assert!(Seeds::parse(options).is_err(), "{options:?}");
        }
    }
}
