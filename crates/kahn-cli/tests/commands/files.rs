//! Tests of the commands that only read a file, without a run or a service.

use std::process::Stdio;

use serde_json::json;

use crate::support::{World, example, objects};

#[test]
fn the_examples_are_valid() {
    let world = World::new();
    for name in ["hello.yaml", "matrix.yaml", "failure.yaml", "diamond.json"] {
        let said = world.object(&["validate", &example(name)]);
        assert_eq!(said["is_valid"], true, "{said}");
    }
    let text = world.ok(&["validate", &example("diamond.json")]);
    assert!(text.ends_with("is valid: DAG diamond with 4 tasks and 4 dependencies\n"), "{text}");
}

#[test]
fn a_wrong_file_is_shown_with_its_place() {
    let world = World::new();
    let file = world.file("wrong.yaml", "tasks:\n  a: { run: x, needs: [bb] }\n  b: { run: x }\n");
    let done = world.run(&["validate", &file]);
    assert_eq!((done.code, done.stdout.as_str()), (2, ""));
    assert!(done.stderr.contains("wrong.yaml:2:"), "{}", done.stderr);
    assert!(!done.stderr.contains('\u{1b}'), "{:?}", done.stderr);
    let done = world.run(&["validate", &file, "--output", "json"]);
    assert_eq!((done.code, done.stdout.as_str()), (2, ""));
    let found = objects(&done.stderr);
    assert_eq!((&found[0]["line"], &found[0]["severity"]), (&json!(2), &json!("error")));
    assert!(found[0]["message"].as_str().unwrap().contains("bb"), "{}", found[0]);
}

#[test]
fn a_file_that_is_not_there_is_bad_input() {
    let world = World::new();
    let done = world.run(&["plan", "nowhere.yaml"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.starts_with("error: cannot read nowhere.yaml"), "{}", done.stderr);
    let done = world.run(&["plan", "nowhere.yaml", "--output", "json"]);
    assert_eq!(objects(&done.stderr)[0]["error"]["kind"], "bad_input");
}

#[test]
fn wrong_usage_ends_with_two() {
    let world = World::new();
    for args in [&["frobnicate"][..], &["get", "not-a-run"], &["run"], &["graph", "x", "--format"]]
    {
        assert_eq!(world.run(args).code, 2, "{args:?}");
    }
}

#[test]
fn a_plan_tells_dependencies_critical_path_and_bounds() {
    let world = World::new();
    let plan = world.object(&["plan", &example("diamond.json"), "--cpu", "2"]);
    assert_eq!(plan["dependencies"]["bottom"], json!(["left", "right"]));
    assert_eq!(plan["phases"], json!([["top"], ["left", "right"], ["bottom"]]));
    assert_eq!(plan["critical_path"], json!(["top", "right", "bottom"]));
    let number = |field: &str| plan[field].as_f64().unwrap();
    let bound = number("critical_path_seconds").max(number("area_seconds"));
    assert_eq!(number("lower_bound_seconds"), bound);
    assert!(bound <= number("estimated_seconds"), "{plan}");
    assert_eq!(plan["placement"].as_array().unwrap().len(), 4);
    assert!(plan["b_levels"]["top"].as_f64() > plan["b_levels"]["left"].as_f64());
    let text = world.ok(&["plan", &example("diamond.json"), "--cpu", "2"]);
    assert!(text.contains("\n  top -> right -> bottom\n"), "{text}");
}

#[test]
fn parameters_are_given_and_checked() {
    let world = World::new();
    let hello = example("hello.yaml");
    world.ok(&["validate", &hello, "--param", "who=you"]);
    let done = world.run(&["validate", &hello, "--param", "whom=you"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("whom"), "{}", done.stderr);
}

#[test]
fn a_graph_is_drawn_in_each_format() {
    let world = World::new();
    let draw = |format| world.ok(&["graph", &example("diamond.json"), "--format", format]);
    assert!(draw("dot").starts_with("digraph"));
    assert_eq!(draw("mermaid").lines().count(), 1 + 4 + 4);
    assert_eq!(draw("svg").matches("<rect").count(), 4);
    let object = world.object(&["graph", &example("diamond.json")]);
    assert_eq!(object["format"], "dot");
}

#[test]
fn the_schema_is_one_json_document() {
    let schema: serde_json::Value = serde_json::from_str(&World::new().ok(&["schema"])).unwrap();
    assert_eq!(schema["title"], "Kahn DAG file");
}

#[test]
fn a_recorded_workflow_becomes_a_file_that_can_be_used() {
    let world = World::new();
    let recording = r#"{"name": "two", "workflow": {
        "specification": {"tasks": [{"id": "a"}, {"id": "b", "parents": ["a"]}]},
        "execution": {"tasks": [
            {"id": "a", "runtimeInSeconds": 10}, {"id": "b", "runtimeInSeconds": 20}
        ]}}}"#;
    let recording = world.file("recording.json", recording);
    let import = ["import", "wfcommons", recording.as_str(), "--time-scale", "0.1"];
    let printed = world.ok(&import);
    let written = world.object(&[&import[..], &["-o", "two.json"]].concat());
    assert_eq!((&written["tasks"], &written["dependencies"]), (&json!(2), &json!(1)));
    assert_eq!(std::fs::read_to_string(world.path().join("two.json")).unwrap(), printed);
    let course = world.object(&["simulate", "two.json", "--workers", "2", "--cpu", "1"]);
    assert_eq!(course["makespan_seconds"], 3.0);
    let done = world.run(&["import", "wfcommons", &example("hello.yaml")]);
    assert_eq!(done.code, 2);
}

#[test]
fn more_workers_do_not_make_a_simulated_run_longer() {
    let world = World::new();
    let makespan = |workers, policy| {
        let file = example("matrix.yaml");
        let args = ["simulate", &file, "--workers", workers, "--cpu", "1", "--policy", policy];
        let course = world.object(&args);
        assert!(course["lower_bound_seconds"].as_f64() <= course["makespan_seconds"].as_f64());
        course["makespan_seconds"].as_f64().unwrap()
    };
    assert!(makespan("8", "spread") <= makespan("1", "spread"));
    assert_eq!(makespan("1", "pack"), makespan("1", "spread"));
}

#[test]
fn a_simulated_run_is_drawn() {
    let world = World::new();
    let diamond = example("diamond.json");
    let text = world.ok(&["simulate", &diamond, "--cpu", "2", "--gantt", "text"]);
    assert!(text.contains("worker-1") && text.contains("right"), "{text}");
    let svg = world.ok(&["simulate", &diamond, "--cpu", "2", "--gantt", "svg"]);
    assert_eq!(svg.matches("<rect").count(), 4);
    let done = world.run(&["simulate", &diamond, "--cpu", "0.001"]);
    assert_eq!(done.code, 2, "{}", done.stderr);
}

#[test]
fn completions_know_the_commands() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.ok(&["completions", shell]).contains("simulate"), "{shell}");
    }
}

#[test]
fn nobody_reading_stdout_is_no_fault() {
    let world = World::new();
    let mut command = world.command(&["schema"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn the_configuration_is_shown_without_secrets() {
    let world = World::new();
    world.file("kahn.toml", "[coordinator.store]\nurl = \"redis://:hunter2@redis:6379\"\n");
    for format in ["text", "json"] {
        let shown = world.ok(&["config", "show", "--output", format]);
        assert!(shown.contains("suspect_after") && !shown.contains("hunter2"), "{shown}");
    }
    world.file("kahn.toml", "[coordinator]\nlisen = \"127.0.0.1:1\"\n");
    let done = world.run(&["config", "show"]);
    assert_eq!(done.code, 2);
    assert!(
        done.stderr.contains("kahn.toml:2") && done.stderr.contains("listen"),
        "{}",
        done.stderr
    );
}
