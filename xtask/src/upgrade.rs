//! `cargo xtask upgrade`: tests this version together with an earlier one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{cargo, run as run_command, say};
use crate::test;
use crate::workspace::{metadata, root};

/// Names the earlier version as long as there is no tag.
const FILE: &str = "tests/upgrade-from";

/// Parses `--from REVISION`.
pub(crate) fn parse<'a>(words: &[&'a str]) -> Result<Option<&'a str>> {
    match *words {
        [] => Ok(None),
        ["--from", revision] => Ok(Some(revision)),
        _ => bail!("usage: cargo xtask upgrade [--from REVISION]"),
    }
}

/// Builds both versions, and runs the tests of upgrades.
pub(crate) fn run(from: Option<&str>) -> Result<()> {
    let revision = match from {
        Some(revision) => revision.to_owned(),
        None => earlier_version()?,
    };
    let commit = commit_of(&revision)?;
    let built = test::build()?;
    let old = build_earlier(&commit)?;
    say(&format!("from {revision} ({commit}) to this version\n"));
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--test", "upgrade", "--"]);
    // One cluster at a time, and what they say about the way back.
    tests.args(["--test-threads", "1", "--nocapture"]).current_dir(root());
    tests.env("KAHN_BIN", built.join("kahn")).env("KAHN_OLD_BIN", old);
    run_command(&mut tests)
}

/// The binary and the helm chart of an earlier version.
#[derive(Debug)]
pub(crate) struct Earlier {
    pub(crate) binary: PathBuf,
    pub(crate) chart: PathBuf,
}

/// Builds the binary of a revision, and takes out its chart.
///
/// # Errors
///
/// Returns an error if there is no such revision, or if it cannot be built.
pub(crate) fn earlier(revision: &str) -> Result<Earlier> {
    let commit = commit_of(revision)?;
    let binary = build_earlier(&commit)?;
    let dir = binary.with_file_name("");
    let extract = "git archive \"$1\" helm/kahn | tar -x -C \"$2\"";
    let mut command = Command::new("sh");
    command.args(["-euc", extract, "sh", &commit]).arg(&dir).current_dir(root());
    run_command(&mut command)?;
    Ok(Earlier { binary, chart: dir.join("helm/kahn") })
}

fn commit_of(revision: &str) -> Result<String> {
    git(&["rev-parse", "--verify", &format!("{revision}^{{commit}}")])
        .with_context(|| format!("cannot find {revision}; fetch it, or name another with --from"))
}

/// Returns the newest tag before this commit, or the commit that a file names.
fn earlier_version() -> Result<String> {
    if let Ok(tag) = git(&["describe", "--tags", "--abbrev=0", "HEAD^"]) {
        return Ok(tag);
    }
    let text =
        fs::read_to_string(root().join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
    named(&text).with_context(|| format!("{FILE} names no commit")).map(str::to_owned)
}

/// Returns the first line that is not a comment.
fn named(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Returns the binary of a commit, and builds it unless that was done before.
fn build_earlier(commit: &str) -> Result<PathBuf> {
    let dir = metadata()?.target_directory.join("upgrade").join(commit);
    let binary = dir.join("kahn");
    if binary.is_file() {
        return Ok(binary);
    }
    let (source, target) = (dir.join("source"), dir.join("target"));
    if !source.exists() {
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        // A tree that was removed without the knowledge of git.
        git(&["worktree", "prune"])?;
        git(&["worktree", "add", "--detach", path(&source)?, commit])?;
    }
    let mut build = cargo();
    build.args(["build", "--locked", "--package", "kahn-cli", "--bin", "kahn"]);
    run_command(build.env("CARGO_TARGET_DIR", &target).current_dir(&source))?;
    let made = target.join("debug/kahn");
    fs::rename(&made, &binary).with_context(|| format!("cannot move {}", made.display()))?;
    // Only the binary is needed again. What cannot be removed is in the way of nothing.
    drop(git(&["worktree", "remove", "--force", path(&source)?]));
    drop(fs::remove_dir_all(target));
    Ok(binary)
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// Runs git in the repository, and returns the first line that it prints.
fn git(arguments: &[&str]) -> Result<String> {
    let mut git = Command::new("git");
    let output = git.args(arguments).current_dir(root()).stdin(Stdio::null()).output();
    let output = output.context("cannot start git")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {}: {}", arguments.join(" "), complaint.trim());
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_named_by_an_option_or_by_the_first_line_that_is_no_comment() {
        assert_eq!(parse(&[]).unwrap(), None);
        assert_eq!(parse(&["--from", "v1"]).unwrap(), Some("v1"));
        for words in [&["--from"][..], &["v1"], &["--to", "v1"]] {
            assert!(parse(words).is_err(), "{words:?}");
        }
        assert_eq!(named("# why\n\n  0123abc \nother\n"), Some("0123abc"));
        assert_eq!(named("# why\n"), None);
    }

    #[test]
    fn the_file_names_a_commit_in_full() {
        let text = fs::read_to_string(root().join(FILE)).unwrap();
        let commit = named(&text).unwrap();
        assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
