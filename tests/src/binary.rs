//! The `kahn` binary, called as a user would.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Where the binary is: what `KAHN_BIN` says, else the debug build.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn kahn_path() -> PathBuf {
    let usual = crate::project().join("target/debug/kahn");
    let path = std::env::var_os("KAHN_BIN").map_or(usual, PathBuf::from);
    assert!(path.is_file(), "no binary at {}; run `cargo xtask test`", path.display());
    path
}

/// The worker of `examples/worker`: what `KAHN_EXAMPLE_WORKER` says, else the debug build.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn example_worker_path() -> PathBuf {
    let usual = crate::project().join("target/debug/kahn-example-worker");
    let path = std::env::var_os("KAHN_EXAMPLE_WORKER").map_or(usual, PathBuf::from);
    assert!(path.is_file(), "no binary at {}; run `cargo xtask test`", path.display());
    path
}

/// What a command said.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Answer {
    /// The answer of a command that must have succeeded.
    ///
    /// # Errors
    ///
    /// With all it said, when it did not.
    pub fn ok(self) -> anyhow::Result<Self> {
        if self.code != 0 {
            bail!("exit code {}\n{}\n{}", self.code, self.stdout, self.stderr);
        }
        Ok(self)
    }

    /// Each line of standard output as JSON.
    ///
    /// # Errors
    ///
    /// When a line is not JSON.
    pub fn json_lines(&self) -> anyhow::Result<Vec<Value>> {
        let parse = |line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The last line of standard output as JSON.
    ///
    /// # Errors
    ///
    /// When there is none, or it is not JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        self.json_lines()?.pop().with_context(|| format!("nothing said; stderr: {}", self.stderr))
    }
}

/// Calls `kahn` with these arguments and environment, and waits for its end.
///
/// # Errors
///
/// When it cannot be started.
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
