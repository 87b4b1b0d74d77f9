//! `cargo xtask takeovers`: replaces the leader of a cluster again and again under many live tasks.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::run as run_command;
use crate::test;
use crate::workspace::root;

/// How often to replace the leader, and under how many live tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    times: u32,
    live: u32,
}

impl Options {
    /// Parses `--times N` and `--live TASKS`. The defaults are 20 and 10,000.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self { times: 20, live: 10_000 };
        for pair in words.chunks(2) {
            let number = |word: &str| {
                word.parse::<u32>().with_context(|| format!("{word:?} is not a number"))
            };
            match *pair {
                ["--times", times] => options.times = number(times)?,
                ["--live", live] => options.live = number(live)?,
                _ => bail!("usage: cargo xtask takeovers [--times N] [--live TASKS]"),
            }
        }
        Ok(options)
    }
}

/// Builds everything and replaces leaders.
pub(crate) fn run(options: Options) -> Result<()> {
    let built = test::build()?;
    let mut torture = Command::new(built.join("torture"));
    torture.args(["--takeovers", &options.times.to_string()]);
    torture.args(["--live", &options.live.to_string()]);
    torture.env("KAHN_BIN", built.join("kahn")).current_dir(root());
    run_command(&mut torture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_any_order() {
        let both = Options { times: 200, live: 100_000 };
        let words = ["--live", "100000", "--times", "200"];
        assert_eq!(Options::parse(&words).unwrap(), both);
        for words in [&["--times"][..], &["--live", "x"], &["60"]] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
    }
}
