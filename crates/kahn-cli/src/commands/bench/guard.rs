//! Ends the processes of a benchmark even if the benchmark itself is killed.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::exit::Failure;

/// Waits for a line. If its input ends without one, the benchmark was killed: the script ends all
/// processes of its group, the shell included, and removes the directory in `$1`.
const SCRIPT: &str = "read -r _ && exit 0
trap '' TERM
kill -TERM 0
sleep 1
rm -rf -- \"$1\"
kill -KILL 0";

/// A process that outlives a killed benchmark and ends what that started.
#[derive(Debug)]
pub(super) struct Guard(Child);

impl Guard {
    /// Starts the guard of a benchmark in `dir`.
    pub(super) fn start(dir: &Path) -> Result<Self, Failure> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "kahn-bench-guard"]).arg(dir).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command
            .spawn()
            .map_err(|error| Failure::refused(format!("cannot start sh: {error}")))?;
        Ok(Self(child))
    }

    /// Lets the guard end the process started by `command`. Signals of the terminal do not reach
    /// the process, so it runs until the benchmark has ended.
    pub(super) fn watch(&self, command: &mut Command) {
        command.process_group(self.0.id().cast_signed());
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The processes have been ended already. If the line cannot be written, the guard ends.
        if let Some(mut stdin) = self.0.stdin.take() {
            drop(stdin.write_all(b"done\n"));
        }
        drop(self.0.wait());
    }
}
