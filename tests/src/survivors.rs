//! Finds the surviving processes of attempts.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

/// A variable that tasks of a test may set to `RUN/TASK` if they clear the task's own variables.
pub const CANARY: &str = "KAHN_TEST_CANARY";

/// Returns the processes on this host that belong to tasks, by run and task, with their names.
///
/// They are found by their environment, so this includes processes in containers and processes that
/// have left their session or their parents.
#[must_use]
pub fn live_processes() -> BTreeMap<(String, String), Vec<String>> {
    let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_number(&entry.file_name())) {
        // A process that has exited or belongs to the system has no readable environment.
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if let Some(owner) = owner(&environment) {
            found.entry(owner).or_default().push(describe(&entry.path()));
        }
    }
    found
}

fn is_number(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

fn owner(environment: &[u8]) -> Option<(String, String)> {
    let value = |name: &str| {
        environment.split(|byte| *byte == 0).find_map(|variable| {
            let value = variable.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    };
    if let Some(canary) = value(CANARY) {
        return canary.split_once('/').map(|(run, task)| (run.to_owned(), task.to_owned()));
    }
    Some((value("KAHN_RUN_ID")?, value("KAHN_TASK")?))
}

fn describe(process: &Path) -> String {
    let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let id = process.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
    format!("{id}: {} ({stat})", command.trim_end())
}
