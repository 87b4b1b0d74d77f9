//! Runs other programs visibly, and writes to the standard streams.

use std::ffi::OsString;
use std::io::{Write, stderr, stdout};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

/// A program that failed. Its exit code becomes ours.
#[derive(Debug)]
pub(crate) struct Failed {
    line: String,
    status: ExitStatus,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` failed: {}", self.line, self.status)
    }
}

impl std::error::Error for Failed {}

/// Returns the exit code for an error: that of the program that failed, or 1.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    error
        .downcast_ref::<Failed>()
        .and_then(|failed| failed.status.code())
        .and_then(|code| u8::try_from(code).ok())
        .filter(|&code| code != 0)
        .unwrap_or(1)
}

/// Returns a command for the cargo that started us.
pub(crate) fn cargo() -> Command {
    Command::new(variable("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Returns an environment variable, unless it is empty.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Prints the command, runs it with inherited output and no input, and waits for it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    say(&format!("$ {line}\n"));
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("cannot start `{line}`"))?;
    if status.success() { Ok(()) } else { Err(Failed { line, status }.into()) }
}

/// Returns whether a program starts and succeeds. Its output is discarded.
pub(crate) fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Formats the command as it could be typed, including the variables that it sets.
fn describe(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}={}", name.to_string_lossy(), value?.to_string_lossy()))
    });
    let program = std::path::Path::new(command.get_program())
        .file_stem()
        .unwrap_or(command.get_program())
        .to_string_lossy()
        .into_owned();
    let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
    variables.chain([program]).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// Writes to stdout. A closed stdout is not an error.
pub(crate) fn say(text: &str) {
    let _ = stdout().lock().write_all(text.as_bytes());
}

/// Writes a line to stderr.
pub(crate) fn print_error(text: &str) {
    let _ = writeln!(stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_of_a_failed_program_is_kept() {
        let error = run(Command::new("sh").args(["-c", "exit 42"])).unwrap_err();
        assert_eq!(exit_code(&error), 42);
        assert_eq!(exit_code(&error.context("while testing")), 42);
        assert_eq!(exit_code(&anyhow::anyhow!("anything else")), 1);
    }

    #[test]
    fn a_command_is_described_as_it_could_be_typed() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["test", "-p", "kahn-sim"]).env("KAHN_SIM_SEED", "7");
        assert_eq!(describe(&command), "KAHN_SIM_SEED=7 cargo test -p kahn-sim");
    }
}
