//! Runs the `kahn` binary like a user.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Returns the path of the binary: `KAHN_BIN`, or the debug build.
///
/// # Panics
///
/// Panics if it does not exist.
#[must_use]
pub fn kahn_path() -> PathBuf {
    let usual = crate::project().join("target/debug/kahn");
    let path = std::env::var_os("KAHN_BIN").map_or(usual, PathBuf::from);
    assert!(path.is_file(), "no binary at {}; run `cargo xtask test`", path.display());
    path
}

/// Returns the path of the worker of `examples/worker`: `KAHN_EXAMPLE_WORKER`, or the debug build.
///
/// # Panics
///
/// Panics if it does not exist.
#[must_use]
pub fn example_worker_path() -> PathBuf {
    let usual = crate::project().join("target/debug/kahn-example-worker");
    let path = std::env::var_os("KAHN_EXAMPLE_WORKER").map_or(usual, PathBuf::from);
    assert!(path.is_file(), "no binary at {}; run `cargo xtask test`", path.display());
    path
}

/// The output of a command.
#[derive(Debug)]
pub struct Answer {
    /// The exit code, or -1 if a signal killed the process.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Answer {
    /// Returns the output of a command that must succeed.
    ///
    /// # Errors
    ///
    /// Returns an error with the whole output if it failed.
    pub fn ok(self) -> anyhow::Result<Self> {
        if self.code != 0 {
            bail!("exit code {}\n{}\n{}", self.code, self.stdout, self.stderr);
        }
        Ok(self)
    }

    /// Parses each line of standard output as JSON.
    ///
    /// # Errors
    ///
    /// Returns an error if a line is not JSON.
    pub fn json_lines(&self) -> anyhow::Result<Vec<Value>> {
        let parse = |line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Parses the last line of standard output as JSON.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no line, or it is not JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        self.json_lines()?.pop().with_context(|| format!("no output; stderr: {}", self.stderr))
    }
}

/// Runs `kahn` with these arguments and environment variables, and waits for its exit.
///
/// # Errors
///
/// Returns an error if it cannot be started.
pub fn kahn(args: &[&str], env: &[(String, String)]) -> anyhow::Result<Answer> {
    let output = Command::new(kahn_path())
        .args(args)
        .envs(env.iter().map(|(k, v)| (k, v)))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()?;
    Ok(Answer {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
