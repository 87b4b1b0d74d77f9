//! `cargo xtask kubernetes`: a real Kubernetes on this machine, and the chart tested in it.

mod modules;
mod programs;

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::machine;
use crate::process::run as run_command;
use crate::test;
use crate::workspace::{cache, root};

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a cluster, and end it with the standard input.
    Up,
    /// Test the chart in a new cluster: everything, or these groups of scenarios.
    Test(Vec<String>),
    /// Remove what a cluster has left that was killed.
    Down,
}

/// Groups of scenarios.
const GROUPS: [&str; 3] = ["release", "pods", "scaling"];

/// Parses the action.
pub(crate) fn parse(words: &[&str]) -> Result<Action> {
    Ok(match *words {
        ["up"] => Action::Up,
        ["test", ref groups @ ..] if groups.iter().all(|group| GROUPS.contains(group)) => {
            Action::Test(groups.iter().map(|group| (*group).to_owned()).collect())
        }
        ["down"] => Action::Down,
        _ => bail!(
            "usage: cargo xtask kubernetes up|test|down, test with any of release, pods, scaling"
        ),
    })
}

/// Does it. Programs that are missing are installed and built first, which takes 20 minutes.
pub(crate) fn run(action: Action) -> Result<()> {
    ensure!(machine::is_root(), "only root may start the nodes of a cluster");
    let cache = cache("KAHN_KUBERNETES_DIR", "kubernetes")?;
    let programs = cache.join("bin");
    if action != Action::Down {
        programs::ensure(&cache)?;
    }
    let built = test::build()?;
    let mut command = Command::new(built.join("kubernetes"));
    let run = cache.join("run");
    match &action {
        Action::Up => command.arg("up").arg(programs).arg(run),
        Action::Test(groups) => command.arg("test").arg(programs).arg(run).args(groups),
        Action::Down => command.arg("down").arg(run),
    };
    command.env("KAHN_BIN", built.join("kahn")).current_dir(root());
    match action {
        Action::Up => {
            let status = command.status().context("cannot start the cluster")?;
            ensure!(status.success(), "the cluster has ended: {status}");
            Ok(())
        }
        Action::Test(_) | Action::Down => run_command(&mut command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_one_word_and_groups_to_test() {
        assert_eq!(parse(&["test"]).unwrap(), Action::Test(Vec::new()));
        assert_eq!(parse(&["test", "pods"]).unwrap(), Action::Test(vec!["pods".into()]));
        for words in [&[][..], &["start"], &["up", "down"], &["test", "x"]] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
