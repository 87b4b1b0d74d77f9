//! `cargo xtask fuzz`: runs the byte-driven tests for longer than a plain test run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::process::{cargo, run as run_command};
use crate::workspace::root;

/// How long CI runs each target, in seconds.
pub(crate) const CI_SECONDS: u64 = 60;

/// The crate and the test of each target, in pairs that run concurrently.
const PAIRS: [[(&str, &str); 2]; 2] = [
    [
        ("kahn-spec", "no_bytes_break_the_dag_file"),
        ("kahn-spec", "no_bytes_break_the_expression_guard"),
    ],
    [
        ("kahn-store", "no_bytes_break_the_log_record"),
        ("kahn-coordinator", "no_bytes_break_the_worker_stream"),
    ],
];

/// Parses `--seconds N`. The default is the duration used in CI.
pub(crate) fn parse(options: &[&str]) -> Result<u64> {
    match *options {
        [] => Ok(CI_SECONDS),
        ["--seconds", seconds] => {
            seconds.parse().with_context(|| format!("{seconds:?} is not a number of seconds"))
        }
        _ => bail!("usage: cargo xtask fuzz [--seconds N]"),
    }
}

/// Runs every target for this many seconds, two at a time.
pub(crate) fn run(seconds: u64) -> Result<()> {
    let tests = build()?;
    for pair in PAIRS {
        let commands = pair.map(|(package, test)| command(&tests, package, test, seconds));
        std::thread::scope(|scope| {
            let runs = commands
                .map(|command| scope.spawn(move || command.and_then(|mut c| run_command(&mut c))));
            let ends = runs.map(|run| run.join().expect("invariant: running a command"));
            ends.into_iter().collect::<Result<()>>()
        })?;
    }
    Ok(())
}

/// A build artifact as reported by cargo.
#[derive(Debug, Deserialize)]
struct Artifact {
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    executable: Option<PathBuf>,
}

/// Builds the tests and returns the artifacts.
fn build() -> Result<Vec<Artifact>> {
    // With the options of the other tests, to avoid a second build and to catch overflows.
    let what = ["test", "--workspace", "--no-run", "--test", "fuzz"];
    let output = cargo()
        .args(what)
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    ensure!(output.status.success(), "the byte-driven tests do not build");
    artifacts(&String::from_utf8_lossy(&output.stdout))
}

fn artifacts(messages: &str) -> Result<Vec<Artifact>> {
    let read = |line| serde_json::from_str(line).context("cannot parse the output of cargo");
    messages.lines().map(read).collect()
}

fn command(tests: &[Artifact], package: &str, test: &str, seconds: u64) -> Result<Command> {
    let is_of = |manifest: &Path| manifest.parent().is_some_and(|dir| dir.ends_with(package));
    let executable = tests
        .iter()
        .filter(|artifact| is_of(&artifact.manifest_path))
        .find_map(|artifact| artifact.executable.as_ref())
        .with_context(|| format!("cargo has built no byte-driven test of {package}"))?;
    let mut command = Command::new(executable);
    command.args(["--exact", test, "--nocapture"]);
    command.env("KAHN_FUZZ_SECONDS", seconds.to_string()).current_dir(root());
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_read_from_the_command_line() {
        assert_eq!(parse(&[]).unwrap(), CI_SECONDS);
        assert_eq!(parse(&["--seconds", "9"]).unwrap(), 9);
        for options in [&["--seconds"][..], &["--seconds", "x"], &["9"]] {
            assert!(parse(options).is_err(), "{options:?}");
        }
    }

    #[test]
    fn each_target_is_found_among_what_cargo_has_built() {
        let messages = r#"{"reason":"build-script-executed","package_id":"x"}
{"reason":"compiler-artifact","manifest_path":"/k/crates/kahn-spec/Cargo.toml","executable":null}
{"reason":"compiler-artifact","manifest_path":"/k/crates/kahn-spec/Cargo.toml","executable":"/t/fuzz-1"}
{"reason":"build-finished","success":true}"#;
        let built = artifacts(messages).unwrap();
        let found = command(&built, "kahn-spec", "a_test", 5).unwrap();
        assert_eq!(found.get_program(), "/t/fuzz-1");
        assert!(command(&built, "kahn-store", "a_test", 5).is_err());
    }

    #[test]
    fn the_tests_of_all_targets_exist() {
        for (package, test) in PAIRS.into_iter().flatten() {
            let path = root().join("crates").join(package).join("tests/fuzz.rs");
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(&format!("fn {test}()")), "{test} is not in {}", path.display());
        }
    }
}
