//! `kahn bench` cleans up after itself.

use std::process::Stdio;

use crate::support::{Process, World, wait_until};

/// The variable that all processes of the test inherit.
const MARK: &str = "TEST_MARK";

/// Counts the processes on this host that have inherited the mark and whose command line contains
/// `word`.
fn n_living(mark: &str, word: &str) -> usize {
    let wanted = format!("{MARK}={mark}");
    let has_mark = |environment: &[u8]| {
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            // A process that has exited or belongs to the system has no readable environment.
            let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
            let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            has_mark(&read("environ")) && command.contains(word)
        })
        .count()
}

#[test]
fn a_killed_benchmark_leaves_no_processes_behind() {
    let world = World::new();
    let mark = world.path().display().to_string();
    let scratch = world.path().join("tmp");
    std::fs::create_dir(&scratch).expect("an empty directory");
    let mut command = world.command(&["bench", "--workload", "process", "--rounds", "1000"]);
    command.env(MARK, &mark).env("TMPDIR", &scratch);
    let bench = Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    wait_until("the start of a worker", || n_living(&mark, " worker") > 0);
    bench.signal("KILL");
    bench.end();
    wait_until("the end of all processes", || n_living(&mark, "") == 0);
    let left: Vec<_> = std::fs::read_dir(&scratch).expect("the directory").collect();
    assert!(left.is_empty(), "{left:?}");
}
