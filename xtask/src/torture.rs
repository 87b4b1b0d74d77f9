//! `cargo xtask torture`: injects faults into a cluster of real processes, and checks the promises.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{run as run_command, succeeds};
use crate::test;
use crate::workspace::root;

/// How long CI does this.
pub(crate) const CI: Options = Options { minutes: 2, seed: 1, store: Store::Redis };

/// How Redis is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    Redis,
    Sentinel,
    Cluster,
}

impl Store {
    fn parse(word: &str) -> Result<Self> {
        Ok(match word {
            "redis" => Self::Redis,
            "sentinel" => Self::Sentinel,
            "cluster" => Self::Cluster,
            _ => bail!("{word:?} is none of redis, sentinel and cluster"),
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        }
    }
}

/// How long to inject faults, in which order, and with which Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    minutes: u32,
    seed: u64,
    store: Store,
}

impl Options {
    /// Parses `--minutes N`, `--seed S` and `--store STORE`. The defaults are those of CI.
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
                ["--store", store] => options.store = Store::parse(store)?,
                _ => bail!(
                    "usage: cargo xtask torture [--minutes N] [--seed S] \
                     [--store redis|sentinel|cluster]"
                ),
            }
        }
        Ok(options)
    }
}

/// Builds everything and injects faults.
pub(crate) fn run(options: Options) -> Result<()> {
    let built = test::build()?;
    let mut torture = in_mounts_of_its_own(built.join("torture"));
    torture.args(["--minutes", &options.minutes.to_string()]);
    torture.args(["--seed", &options.seed.to_string()]);
    torture.args(["--store", options.store.as_str()]);
    torture.env("KAHN_BIN", built.join("kahn")).current_dir(root());
    run_command(&mut torture)
}

/// Returns a command for a program that mounts disks. Where that is possible, they vanish with the
/// program, even if it is killed.
fn in_mounts_of_its_own(program: PathBuf) -> Command {
    if !succeeds("unshare", &["--mount", "true"]) {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command.arg("--mount").arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_and_seed_are_read_in_any_order() {
        assert_eq!(Options::parse(&[]).unwrap(), CI);
        let both = Options { minutes: 60, seed: 7, store: Store::Redis };
        assert_eq!(Options::parse(&["--minutes", "60", "--seed", "7"]).unwrap(), both);
        assert_eq!(Options::parse(&["--seed", "7", "--minutes", "60"]).unwrap(), both);
        let sentinel = Options { store: Store::Sentinel, ..CI };
        assert_eq!(Options::parse(&["--store", "sentinel"]).unwrap(), sentinel);
        for words in [&["--minutes"][..], &["--minutes", "x"], &["60"], &["--store", "x"]] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
    }
}
