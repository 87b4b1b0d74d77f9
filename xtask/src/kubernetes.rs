//! `cargo xtask kubernetes`: a real Kubernetes on this machine, and the chart tested in it.

mod modules;
mod programs;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::machine;
use crate::process::{run as run_command, variable};
use crate::workspace::{cache, root};
use crate::{test, upgrade};

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a cluster, and end it with the standard input.
    Up,
    /// Test the chart in a new cluster: everything, or these groups of scenarios.
    Test {
        /// The revision from which the release is upgraded first.
        from: Option<String>,
        /// The groups; empty for all.
        groups: Vec<String>,
    },
    /// Remove what a cluster has left that was killed.
    Down,
}

/// Groups of scenarios.
const GROUPS: [&str; 3] = ["release", "pods", "scaling"];

/// Parses the action.
pub(crate) fn parse(words: &[&str]) -> Result<Action> {
    Ok(match *words {
        ["up"] => Action::Up,
        ["test", "--from", revision, ref groups @ ..] => to_test(Some(revision), groups)?,
        ["test", ref groups @ ..] => to_test(None, groups)?,
        ["down"] => Action::Down,
        _ => bail!("usage: cargo xtask kubernetes up|test|down"),
    })
}

fn to_test(from: Option<&str>, groups: &[&str]) -> Result<Action> {
    if let Some(unknown) = groups.iter().find(|group| !GROUPS.contains(group)) {
        let usage = "usage: cargo xtask kubernetes test [--from REVISION] [GROUP]…";
        bail!("{unknown:?} is none of {}; {usage}", GROUPS.join(", "));
    }
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Ok(Action::Test { from: from.map(str::to_owned), groups })
}

/// Returns what CI does.
pub(crate) fn for_ci() -> Action {
    Action::Test { from: None, groups: vec!["release".to_owned()] }
}

/// Returns why CI does not test the chart in a cluster here, or `None` if it does: if the programs are
/// in the cache, or if `KAHN_KUBERNETES` is 1.
pub(crate) fn reason_not_to_test() -> Option<String> {
    if variable("KAHN_KUBERNETES").is_some_and(|value| value == "1") {
        return None;
    }
    let is_cached = || Ok::<_, anyhow::Error>(programs::are_built(&directory()?));
    if machine::is_root() && is_cached().is_ok_and(|is_cached| is_cached) {
        return None;
    }
    let advice = "`cargo xtask kubernetes test` builds them as root, as does KAHN_KUBERNETES=1";
    Some(format!("the programs of a cluster are not there; {advice}"))
}

fn directory() -> Result<PathBuf> {
    cache("KAHN_KUBERNETES_DIR", "kubernetes")
}

/// Does it. Programs that are missing are installed and built first, which takes 20 minutes.
pub(crate) fn run(action: Action) -> Result<()> {
    ensure!(machine::is_root(), "only root may start the nodes of a cluster");
    let cache = directory()?;
    let programs = cache.join("bin");
    if action != Action::Down {
        programs::ensure(&cache)?;
    }
    let built = test::build()?;
    let mut command = Command::new(built.join("kubernetes"));
    let run = cache.join("run");
    match &action {
        Action::Up => command.arg("up").arg(programs).arg(run),
        Action::Test { groups, .. } => command.arg("test").arg(programs).arg(run).args(groups),
        Action::Down => command.arg("down").arg(run),
    };
    command.env("KAHN_BIN", built.join("kahn")).current_dir(root());
    match action {
        Action::Up => {
            let status = command.status().context("cannot start the cluster")?;
            ensure!(status.success(), "the cluster has ended: {status}");
            Ok(())
        }
        Action::Test { from: Some(revision), .. } => {
            let earlier = upgrade::earlier(&revision)?;
            command.env("KAHN_OLD_BIN", earlier.binary).env("KAHN_OLD_CHART", earlier.chart);
            run_command(&mut command)
        }
        Action::Test { from: None, .. } | Action::Down => run_command(&mut command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_one_word_and_groups_to_test() {
        let parsed = |words: &[&str]| match parse(words).unwrap() {
            Action::Test { from, groups } => (from, groups),
            other => panic!("{other:?}"),
        };
        assert_eq!(parsed(&["test"]), (None, Vec::new()));
        assert_eq!(parsed(&["test", "pods"]), (None, vec!["pods".into()]));
        let from = Some("v1".to_owned());
        assert_eq!(parsed(&["test", "--from", "v1", "pods"]), (from, vec!["pods".into()]));
        for words in [&[][..], &["start"], &["up", "down"], &["test", "x"]] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
