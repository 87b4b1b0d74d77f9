//! Tests of `kahn logs` for local runs: on a terminal, in a pipe, as JSON, for one task and for
//! all.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::World;

const RUDE: &str = "tasks:\n  rude:\n    run: \
                    'printf \"a\\033[2J\\033[31mred\\033[0m\\342\\200\\256b\\r\\nlast\"; \
                    test $KAHN_ATTEMPT -eq 2'\n    retry: { max_attempts: 2 }\n  \
                    tail:\n    needs: [rude]\n    run: seq 1 10000\n";
const RAW: &str = "a\u{1b}[2J\u{1b}[31mred\u{1b}[0m\u{202e}b\r\nlast";
const PLAIN: &str = "a\\x1b[2Jred\\u{202e}b\nlast";

fn finished_run(world: &World) -> String {
    let file = world.file("rude.yaml", RUDE);
    world.object(&["run", &file])["run"].as_str().expect("a run").to_owned()
}

/// Returns what a command prints on a terminal.
fn on_a_terminal(world: &World, command: &str) -> String {
    let whole = format!("{} {command}", env!("CARGO_BIN_EXE_kahn"));
    let done = Command::new("script")
        .args(["-qec", &whole, "/dev/null"])
        .current_dir(world.path())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("KAHN_DATA_DIR", world.path().join("data"))
        .stdin(Stdio::null())
        .output()
        .expect("script is there");
    assert!(done.status.success(), "{done:?}");
    // A terminal inserts a carriage return before each line feed.
    String::from_utf8_lossy(&done.stdout).replace("\r\n", "\n")
}

#[test]
fn tasks_cannot_steer_the_terminal_of_whoever_reads_their_logs() {
    let world = World::new();
    let run = finished_run(&world);
    assert_eq!(on_a_terminal(&world, &format!("logs {run} rude")), PLAIN);
    assert_eq!(world.ok(&["logs", &run, "rude", "--plain"]), PLAIN);
    assert_eq!(world.ok(&["logs", &run, "rude"]), RAW);
}

#[test]
fn logs_are_shown_for_one_task_and_for_all_in_lines_and_as_objects() {
    let world = World::new();
    let run = finished_run(&world);
    assert_eq!(world.ok(&["logs", &run, "tail", "--tail", "2"]), "9999\n10000\n");
    assert_eq!(world.ok(&["logs", &run, "tail", "--tail", "0"]), "");
    assert_eq!(world.ok(&["logs", &run, "tail", "--tail", "20000"]).lines().count(), 10_000);
    assert_eq!(world.ok(&["logs", &run, "rude", "--attempt", "1", "--follow"]), RAW);

    let all = world.ok(&["logs", &run, "--plain"]);
    let first: Vec<&str> = all.lines().take(3).collect();
    assert_eq!(first, ["rude | a\\x1b[2Jred\\u{202e}b", "rude | last", "tail | 1"]);
    assert_eq!(all.lines().count(), 10_002);

    let objects = world.objects(&["logs", &run, "rude"]);
    let line = |offset: usize, line: &str| json!({ "task": "rude", "attempt": 2, "offset": offset, "line": line });
    let (whole, _) = RAW.split_once('\n').unwrap();
    let mut last = line(whole.len() + 1, "last");
    last["is_partial"] = true.into();
    let end = json!({
        "task": "rude", "attempt": 2, "offset": RAW.len(), "is_end": true, "missing": null,
    });
    assert_eq!(objects, [line(0, whole), last, end]);

    let refused = world.run(&["logs", &run, "rude", "--attempt", "3"]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("has had 2 attempts, not 3"), "{}", refused.stderr);
}
