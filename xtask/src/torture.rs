//! `cargo xtask torture`: injects faults into a cluster of real processes, and checks the promises.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::run as run_command;
use crate::test;
use crate::workspace::root;

/// How long CI does this.
pub(crate) const CI: Options = Options { minutes: 2, seed: 1 };

/// How long to inject faults, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    minutes: u32,
    seed: u64,
}

impl Options {
    /// Parses `--minutes N` and `--seed S`. The defaults are those of CI.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut options = CI;
        for pair in words.chunks(2) {
            match *pair {
                ["--minutes", minutes] => {
                    options.minutes = minutes
                        .parse()
                        .with_context(|| format!("{minutes:?} is not a number of minutes"))?;
                }
                ["--seed", seed] => {
                    options.seed =
                        seed.parse().with_context(|| format!("{seed:?} is not a seed"))?;
                }
                _ => bail!("usage: cargo xtask torture [--minutes N] [--seed S]"),
            }
        }
        Ok(options)
    }
}

/// Builds everything and injects faults.
pub(crate) fn run(options: Options) -> Result<()> {
    let built = test::build()?;
    let mut torture = Command::new(built.join("torture"));
    torture.args(["--minutes", &options.minutes.to_string()]);
    torture.args(["--seed", &options.seed.to_string()]);
    torture.env("KAHN_BIN", built.join("kahn")).current_dir(root());
    run_command(&mut torture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_and_seed_are_read_in_any_order() {
        assert_eq!(Options::parse(&[]).unwrap(), CI);
        let both = Options { minutes: 60, seed: 7 };
        assert_eq!(Options::parse(&["--minutes", "60", "--seed", "7"]).unwrap(), both);
        assert_eq!(Options::parse(&["--seed", "7", "--minutes", "60"]).unwrap(), both);
        for words in [&["--minutes"][..], &["--minutes", "x"], &["60"]] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
    }
}
