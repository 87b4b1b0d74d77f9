//! Runs the core's scenarios. Each file contains scenarios: a title after `==`, the script, `----`,
//! and the expected transcript. `KAHN_BLESS=1` updates the transcripts.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "support/script.rs"]
mod script;
#[path = "support/triggers.rs"]
mod triggers;

use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

/// Returns the contents of a file with updated transcripts.
fn with_updated_transcripts(text: &str) -> String {
    let mut out = String::new();
    for scenario in text.split_inclusive('\n').collect::<String>().split("== ").skip(1) {
        let (title, rest) = scenario.split_once('\n').expect("a title");
        let script = rest.split("\n----").next().expect("a script").trim_end();
        let transcript = script::carry_out(script);
        out.push_str(&format!("== {title}\n{script}\n----\n{transcript}\n"));
    }
    format!("{}\n", out.trim_end())
}

fn check(file: &str, update: impl Fn(&str) -> String) {
    let path = folder().join(file);
    let found = fs::read_to_string(&path).unwrap_or_default();
    let expected = update(&found);
    if is_blessed() {
        fs::write(&path, expected).unwrap();
        return;
    }
    for (at, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "{file}:{}", at + 1);
    }
    assert_eq!(found.len(), expected.len(), "{file} is too short or too long");
}

#[expect(clippy::disallowed_methods, reason = "the one switch that the person at the keyboard has")]
fn is_blessed() -> bool {
    std::env::var("KAHN_BLESS").is_ok()
}

macro_rules! scenarios {
    ($($name:ident: $file:literal,)*) => {
        $(#[test] fn $name() { check($file, with_updated_transcripts); })*

        #[test]
        fn every_scenario_file_has_a_test() {
            let mut listed = vec![$($file,)* "triggers.txt"];
            listed.sort_unstable();
            let mut found: Vec<String> = fs::read_dir(folder())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            found.sort_unstable();
            assert_eq!(found, listed);
        }
    };
}

scenarios! {
    runs_go_from_submit_to_end: "runs.txt",
    failures_are_retried_handled_or_end_the_run: "failures.txt",
    dependencies_say_when_a_task_goes: "dependencies.txt",
    leases_have_one_holder_and_one_outcome: "leases.txt",
    workers_come_and_go: "workers.txt",
    a_coordinator_takes_over: "takeover.txt",
    runs_are_paused_resumed_cancelled_and_retried: "steering.txt",
    gates_hold_tasks_back: "gates.txt",
    timeouts_expire: "timeouts.txt",
    tasks_are_placed_in_order_and_where_there_is_room: "placement.txt",
    leases_are_prefetched_and_recalled: "prefetch.txt",
    every_reason_to_wait_is_explained: "explain.txt",
    workers_under_pressure_get_less: "pressure.txt",
}

#[test]
fn every_trigger_decides_for_every_moment_and_kind_of_dependency() {
    check("triggers.txt", |_| triggers::table());
}
