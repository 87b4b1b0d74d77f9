//! Runs programs of the host.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

/// How long to wait for anything.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Waits for a condition that is expensive to check.
pub(crate) fn poll(what: &str, mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
    let since = Instant::now();
    while !holds() {
        ensure!(since.elapsed() < TIMEOUT, "waited {TIMEOUT:?} for {what}");
        std::thread::sleep(Duration::from_millis(100)); // poll
    }
    Ok(())
}

/// Runs a command line, whose words contain no spaces.
pub(super) fn run(line: &str) -> anyhow::Result<String> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    output_of(command.args(words))
}

/// Runs a command, and returns what it prints.
pub(super) fn output_of(command: &mut Command) -> anyhow::Result<String> {
    let what = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| what.clone())?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what}: {error}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
