//! Runs the built command in isolation: without configuration or environment, with an empty data
//! directory.

#![expect(clippy::unwrap_used, reason = "a command that cannot be run fails the test")]

use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use std::time::Duration;

use serde_json::Value;

/// A directory for one test, in which commands are run.
pub(crate) struct World(tempfile::TempDir);

/// The result of a command.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kahn"));
        command.args(args).current_dir(self.path()).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("KAHN_DATA_DIR", self.path().join("data"));
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.command(args).output().unwrap().into()
    }

    /// Runs a command, which must succeed, and returns its stdout.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, 0, "{args:?}: {}{}", done.stdout, done.stderr);
        done.stdout
    }

    /// Runs a command, which must succeed, and returns its JSON objects.
    pub(crate) fn objects(&self, args: &[&str]) -> Vec<Value> {
        objects(&self.ok(&[args, &["--output", "json"]].concat()))
    }

    /// Runs a command, which must succeed, and returns its only JSON object.
    pub(crate) fn object(&self, args: &[&str]) -> Value {
        let mut objects = self.objects(args);
        assert_eq!(objects.len(), 1, "{args:?}");
        objects.remove(0)
    }
}

/// A process that is killed at the end of the test.
pub(crate) struct Process(Option<Child>);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(Some(command.spawn().unwrap()))
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    /// Waits until the process prints a line with this beginning, and returns the line. Later
    /// output is read and discarded.
    pub(crate) fn wait_for(&mut self, source: Source, beginning: &str) -> String {
        self.wait_for_line(source, |line| line.starts_with(beginning))
    }

    /// Like [`Process::wait_for`], with a predicate for the line.
    pub(crate) fn wait_for_line(
        &mut self,
        source: Source,
        is_meant: impl Fn(&str) -> bool,
    ) -> String {
        let mut printed: Box<dyn BufRead + Send> = match source {
            Source::Stdout => Box::new(BufReader::new(self.child().stdout.take().unwrap())),
            Source::Stderr => Box::new(BufReader::new(self.child().stderr.take().unwrap())),
        };
        let mut all = String::new();
        loop {
            let start = all.len();
            let n = printed.read_line(&mut all).unwrap();
            assert_ne!(n, 0, "it ended before the line came: {all}");
            if is_meant(&all[start..]) {
                let line = all[start..].to_owned();
                std::thread::spawn(move || std::io::copy(&mut printed, &mut std::io::sink()));
                return line;
            }
        }
    }

    /// Sends a signal, given by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.0.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits until the process has ended, and returns its exit code and stdout.
    pub(crate) fn end(mut self) -> (i32, String) {
        let mut child = self.0.take().unwrap();
        let pid = child.id();
        let (tx, rx) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut stdout = String::new();
            if let Some(mut pipe) = child.stdout.take() {
                pipe.read_to_string(&mut stdout).unwrap();
            }
            let code = child.wait().unwrap().code().unwrap_or(-1);
            // Fails if the test has timed out.
            drop(tx.send((code, stdout)));
        });
        rx.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| {
            drop(Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status());
            panic!("process {pid} does not end")
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // The process may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// The stream to read from.
pub(crate) enum Source {
    Stdout,
    Stderr,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// Parses a JSON object from each line.
pub(crate) fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the path of an example file.
pub(crate) fn example(name: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples")).join(name);
    path.display().to_string()
}

/// Waits up to a minute for a condition.
#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20)); // poll
    }
    panic!("waited in vain for {what}");
}
