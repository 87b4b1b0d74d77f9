//! Tests of `kahn run`, and of inspecting its runs afterwards without a service.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Process, Source, World, example, objects};

/// Starts a command and waits until it prints a line on stderr.
fn start_and_wait_for(world: &World, args: &[&str], line: &str) -> Process {
    let mut command = world.command(args);
    let mut process = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    process.wait_for(Source::Stderr, line);
    process
}

#[test]
fn a_run_ends_with_a_summary_and_can_be_looked_at_later() {
    let world = World::new();
    let summary = world.object(&["run", &example("hello.yaml"), "--param", "who=you"]);
    assert_eq!((&summary["state"], &summary["dag"]), (&json!("succeeded"), &json!("hello")));
    assert_eq!(summary["tasks"], json!({ "succeeded": 5, "skipped": 1 }));
    assert_eq!(summary["failed"], json!([]));
    let bound = summary["lower_bound_seconds"].as_f64().unwrap();
    assert!(0.0 < bound && bound <= summary["makespan_seconds"].as_f64().unwrap(), "{summary}");

    let run = summary["run"].as_str().unwrap();
    let events = world.objects(&["events", run]);
    let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=u64::try_from(events.len()).unwrap()).collect::<Vec<_>>());
    assert_eq!(events.last().unwrap()["type"], "run_succeeded");
    let always = "attempt cause cause_code message run seq task time type worker";
    let of_an_end = "cpu_seconds elapsed_seconds memory_peak_bytes read_bytes written_bytes";
    for event in &events {
        let is_end = event["type"] == "task_succeeded" || event["type"] == "task_retried";
        let expected = always.split(' ').chain(of_an_end.split(' ').filter(|_| is_end));
        let fields: BTreeSet<&str> =
            event.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, expected.collect::<BTreeSet<_>>(), "{event}");
        assert_eq!(event["run"], run);
    }
    let found = world.object(&["get", run, "--tasks"]);
    assert_eq!(found["task_list"].as_array().unwrap().len(), 6);
    assert_eq!(world.ok(&["logs", run, "greet"]), "hello, you\n");
    assert_eq!(world.object(&["list"])["run"], run);
    assert!(world.ok(&["explain", run, "long"]).starts_with("long is skipped"));
}

#[test]
fn lower_bounds_are_below_the_makespan_of_a_real_run() {
    let world = World::new();
    let file = world.file(
        "short.yaml",
        "tasks:\n  start: {sleep: 0s}\n  work: {run: sleep 0.05, needs: [start]}\n  \
         pause: {sleep: 1s, needs: [start]}\n  gate: {noop: true, needs: [work]}\n  \
         last: {sleep: 0.2s, needs: [gate]}\n  long: {run: sleep 0.1, needs: [last]}\n",
    );
    let number = |object: &Value, field: &str| object[field].as_f64().unwrap();
    let plan = world.object(&["plan", &file]);
    let course = world.object(&["simulate", &file]);
    let summary = world.object(&["run", &file]);
    let makespan = number(&summary, "makespan_seconds");
    for bounded in [&plan, &course, &summary] {
        assert!(number(bounded, "lower_bound_seconds") <= makespan, "{bounded} {summary}");
    }
    assert_eq!(plan["tasks_without_estimate"], 2);
    assert!(number(&plan, "lower_bound_seconds") > 0.99, "{plan}");
}

#[test]
fn a_failed_run_ends_with_one_and_the_last_words_of_its_task() {
    let world = World::new();
    let done = world.run(&["run", &example("failure.yaml")]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(
        done.stdout
            .contains("failed      work: exit code 3 (attempt 1 on local)\n    | about to fail\n"),
        "{}",
        done.stdout
    );
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert!(lines.contains(&"started work"), "{}", done.stderr);
    assert!(lines.iter().any(|line| line.starts_with("failed work after")), "{}", done.stderr);
    assert!(!done.stderr.contains('\u{1b}') && !done.stdout.contains('\u{1b}'));
}

#[test]
fn the_output_of_tasks_is_printed_as_it_comes_with_the_name_of_each() {
    let world = World::new();
    let file = world.file(
        "two.yaml",
        "tasks:\n  a: { run: 'echo one; echo two' }\n  \
         b: { needs: [a], run: 'printf three; exit 1' }\n",
    );
    let done = world.run(&["run", &file, "--logs"]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stdout.starts_with("a | one\na | two\nb | three\n"), "{}", done.stdout);
    // What was printed is not repeated in the summary.
    assert!(!done.stdout.contains("    | three"), "{}", done.stdout);

    let done = world.run(&["run", &file, "--logs", "--output", "json"]);
    let objects = objects(&done.stdout);
    assert_eq!((&objects[0]["task"], &objects[0]["line"]), (&json!("a"), &json!("one")));
    assert_eq!(objects.last().unwrap()["state"], "failed");
}

#[test]
fn the_output_of_a_running_task_is_printed_before_it_ends() {
    let world = World::new();
    let file = world.file("wait.yaml", "tasks:\n  a: { run: 'echo hello; exec sleep 1000' }\n");
    let mut command = world.command(&["run", &file, "--logs"]);
    let mut process = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    process.wait_for(Source::Stdout, "a | hello");
    process.signal("INT");
    assert_eq!(process.end().0, 4);
}

#[test]
fn an_attempt_is_never_shown_shorter_than_it_was() {
    let world = World::new();
    let file = world.file(
        "sleeps.yaml",
        "tasks:\n  s:\n    run: sleep 0.2\n    matrix: { n: [1, 2, 3, 4, 5, 6, 7, 8] }\n    \
         resources: { cpu: 0.1 }\n",
    );
    let run = world.object(&["run", &file])["run"].as_str().unwrap().to_owned();
    let found = world.object(&["get", &run, "--tasks"]);
    let tasks = found["task_list"].as_array().unwrap();
    assert_eq!(tasks.len(), 8);
    for task in tasks {
        assert!(task["seconds"].as_f64().unwrap() >= 0.2, "{task}");
    }
    let ends = world.objects(&["events", &run]);
    let ends: Vec<&Value> = ends.iter().filter(|e| e["type"] == "task_succeeded").collect();
    assert_eq!(ends.len(), 8);
    for end in ends {
        assert!(end["elapsed_seconds"].as_f64().unwrap() >= 0.2, "{end}");
    }
}

#[test]
fn the_messages_of_earlier_attempts_are_kept() {
    let world = World::new();
    let file = world.file(
        "flaky.yaml",
        "tasks:\n  a:\n    exec: [/no/such/program]\n    \
         retry: { on: [image], max_attempts: 3, backoff: { initial: 1ms } }\n",
    );
    let done = world.run(&["run", &file, "--output", "json"]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    let run = objects(&done.stdout).pop().unwrap()["run"].as_str().unwrap().to_owned();
    let events = world.objects(&["events", &run]);
    let retried: Vec<&Value> = events.iter().filter(|e| e["type"] == "task_retried").collect();
    assert_eq!(retried.len(), 2, "{events:?}");
    for event in retried {
        assert!(event["message"].is_string(), "{event}");
    }
}

#[test]
fn tasks_cannot_steer_the_terminal_through_the_summary() {
    let world = World::new();
    let file =
        world.file("rude.yaml", "tasks:\n  a: { run: 'printf \"\\033[2Jgone\\n\"; exit 1' }\n");
    let done = world.run(&["run", &file]);
    assert_eq!(done.code, 1);
    assert!(done.stdout.contains("| ?[2Jgone"), "{:?}", done.stdout);
}

#[test]
fn a_run_that_was_killed_goes_on_where_it_was() {
    let world = World::new();
    let file = world.file(
        "two.yaml",
        &format!(
            "tasks:\n  first: {{ run: 'echo ran >> {dir}/first' }}\n  \
             second: {{ needs: [first], run: 'test -e {dir}/go || exec sleep 1000' }}\n",
            dir = world.path().display()
        ),
    );
    let process = start_and_wait_for(&world, &["run", &file], "started second");
    process.signal("KILL");
    process.end();
    assert_eq!(world.object(&["list"])["state"], "active");

    world.file("go", "");
    let summary = world.object(&["run", "--resume"]);
    assert_eq!(summary["state"], "succeeded");
    let first = std::fs::read_to_string(world.path().join("first")).unwrap();
    assert_eq!(first, "ran\n", "what had succeeded was run again");
    let run = summary["run"].as_str().unwrap();
    let has = |kind: &str| {
        let is_it = |event: &Value| event["type"] == kind && event["task"] == "second";
        world.objects(&["events", run]).iter().any(is_it)
    };
    assert!(has("task_succeeded"));
    let again = world.run(&["run", "--resume"]);
    assert_eq!(again.code, 2, "{}", again.stderr);
    assert_eq!(world.object(&["run", "--resume", run])["state"], "succeeded");
}

#[test]
fn a_task_that_this_machine_can_never_run_is_told_at_once_and_fails_the_run() {
    let world = World::new();
    let huge = world
        .file("huge.yaml", "tasks:\n  big:\n    run: 'true'\n    resources: { memory: 900Gi }\n");
    let done = world.run(&["run", &huge]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("warning[infeasible]"), "{}", done.stderr);
    assert!(done.stderr.contains("huge.yaml:2:3"), "{}", done.stderr);
    assert!(
        done.stderr.contains("task `big` cannot run: this machine has memory="),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("memory=900Gi is asked for"), "{}", done.stderr);
    assert!(done.stdout.contains("infeasible"), "{}", done.stdout);

    // What can be done is done before.
    let far = world.file(
        "far.yaml",
        "tasks:\n  near: { run: 'true' }\n  far:\n    needs: [near]\n    noop: true\n    \
         labels: { require: { zone: moon } }\n",
    );
    let done = world.run(&["run", &far, "--output", "json"]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    let summary = objects(&done.stdout).pop().unwrap();
    assert_eq!(summary["tasks"], json!({ "succeeded": 1, "failed": 1 }), "{summary}");
    // A warning of the worker may come first: on a busy host, the helper process of the run before
    // has not quite ended.
    let told: String = done.stderr.lines().filter(|line| line.starts_with('{')).collect();
    let told = objects(&told).remove(0);
    assert_eq!((&told["code"], &told["line"]), (&json!("infeasible"), &json!(3)), "{told}");
}

#[test]
fn an_interrupt_cancels_the_run() {
    let world = World::new();
    let file =
        world.file("long.yaml", "tasks:\n  a: { sleep: 1000s }\n  b: { needs: [a], noop: true }\n");
    let process = start_and_wait_for(&world, &["run", &file], "started a");
    process.signal("INT");
    let (code, printed) = process.end();
    assert_eq!(code, 4, "{printed}");
    assert!(printed.contains("cancelled"), "{printed}");
}

#[test]
fn a_run_in_memory_leaves_nothing_behind() {
    let world = World::new();
    let summary =
        world.object(&["run", &example("diamond.json"), "--store", "memory", "--cpus", "1"]);
    assert_eq!(summary["state"], "succeeded");
    assert_eq!(std::fs::read_dir(world.path().join("data/run")).unwrap().count(), 0);
}

#[test]
fn two_runs_at_one_time_do_not_disturb_each_other() {
    let world = World::new();
    let file = world.file("long.yaml", "tasks:\n  a: { sleep: 1000s }\n");
    let _process = start_and_wait_for(&world, &["run", &file], "started a");
    assert_eq!(world.object(&["run", &example("diamond.json")])["state"], "succeeded");
    let active = world.objects(&["list", "--state", "active"]);
    let run = active[0]["run"].as_str().unwrap();
    let busy = world.run(&["events", run]);
    assert_eq!(busy.code, 3);
    assert!(busy.stderr.contains("another `kahn run`"), "{}", busy.stderr);
}

#[test]
fn a_coordinator_that_is_not_there_is_told_with_advice() {
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let done = world.run(&["list", "--coordinator", &url]);
    assert_eq!(done.code, 3);
    assert!(done.stderr.contains(&url) && done.stderr.contains("advice: "), "{}", done.stderr);
    let done = world.run(&["list", "--coordinator", &url, "--output", "json"]);
    assert_eq!(objects(&done.stderr)[0]["error"]["kind"], "refused");
}
