//! `cargo xtask sim`: the simulator over many seeds, or over the one that failed.

use anyhow::{Context, Result, bail};

use crate::process::{cargo, run as run_command};
use crate::workspace::root;

/// The seeds that CI runs.
pub(crate) const CI_SEEDS: u64 = 10_000;

/// Which seeds to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seeds {
    /// The first so many.
    First(u64),
    /// This one alone.
    Only(u64),
}

impl Seeds {
    /// Reads `--seeds N` or `--seed S`; nothing means what CI runs.
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

/// Runs the simulator's seeds. It is built as the other tests are, so that nothing is built twice;
/// what it runs is optimised there, too.
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
