//! Tests of the commands that use a coordinator and a worker, run as processes.

#![expect(clippy::unwrap_used, reason = "a command that cannot be run fails the test")]

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Process, Source, World, example, objects};

/// Both processes; killed at the end of the test.
struct Cluster {
    world: World,
    url: String,
    _worker: Process,
    coordinator: Process,
}

impl Cluster {
    fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts it with these environment variables of the worker.
    fn start_with(environment: &[(&str, &str)]) -> Self {
        let world = World::new();
        let any = "127.0.0.1:0";
        let args = ["coordinator", "--listen", any, "--health-listen", any, "--store", "memory"];
        let mut command = world.command(&[&args[..], &["--output", "json"]].concat());
        let mut coordinator = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::null()));
        let said = coordinator.wait_for(Source::Stdout, "{");
        let said: Value = serde_json::from_str(&said).unwrap();
        let url = said["url"].as_str().unwrap().to_owned();
        let args = ["worker", "--health-listen", any, "--name", "w1", "--coordinator", &url];
        let mut command = world.command(&args);
        command.envs(environment.iter().copied());
        let worker = Process::start(command.stderr(Stdio::null()));
        Self { world, url, _worker: worker, coordinator }
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [args, &["--coordinator", &self.url]].concat()
    }

    fn object(&self, args: &[&str]) -> Value {
        self.world.object(&self.args(args))
    }
}

#[test]
fn a_cluster_runs_what_is_submitted_and_is_steered() {
    let cluster = Cluster::start();
    let wait = ["submit", &example("failure.yaml"), "--wait", "--idempotency-key", "k"];
    let done = cluster.world.run(&cluster.args(&[&wait[..], &["--output", "json"]].concat()));
    assert_eq!(done.code, 1, "{}", done.stderr);
    let summary = objects(&done.stdout).pop().unwrap();
    assert_eq!(summary["failed"][0]["task"], "work");
    assert_eq!(summary["failed"][0]["log_tail"], json!(["about to fail"]));
    let run = summary["run"].as_str().unwrap();

    let again = cluster.object(&["submit", &example("failure.yaml"), "--idempotency-key", "k"]);
    assert_eq!((&again["run"], &again["is_repeated"]), (&json!(run), &json!(true)));
    assert_eq!(cluster.object(&["get", run])["state"], "failed");
    assert_eq!(cluster.object(&["list", "--state", "failed"])["run"], run);
    let why = cluster.object(&["explain", run, "publish"]);
    assert_eq!((&why["state"], &why["blockers"][0]["name"]), (&json!("skipped"), &json!("work")));
    assert_eq!(cluster.object(&["retry", run, "--only", "prepare"])["run"], run);

    assert_eq!(cluster.object(&["workers"])["worker"], "w1");
    assert_eq!(cluster.object(&["workers", "cordon", "w1"])["is_cordoned"], true);
    assert_eq!(cluster.object(&["workers", "uncordon", "w1"])["is_cordoned"], false);
    let checks = objects(&cluster.world.ok(&cluster.args(&["doctor", "--output", "json"])));
    let coordinator = checks.iter().find(|check| check["check"] == "coordinator").unwrap();
    assert_eq!(coordinator["status"], "ok");
}

#[test]
fn runs_are_paused_resumed_and_cancelled() {
    let cluster = Cluster::start();
    let file = cluster.world.file("long.yaml", "tasks:\n  a: { sleep: 1000s }\n");
    let run = cluster.object(&["submit", &file])["run"].as_str().unwrap().to_owned();
    assert_eq!(cluster.object(&["pause", &run])["state"], "paused");
    assert_eq!(cluster.object(&["resume", &run])["state"], "active");
    cluster.object(&["cancel", &run, "--reason", "enough"]);
    let done = cluster.world.run(&cluster.args(&["watch", &run]));
    assert_eq!(done.code, 4, "{}", done.stderr);
    assert!(done.stdout.contains("enough"), "{}", done.stdout);
    let unknown = "00000000-0000-0000-0000-000000000001";
    assert_eq!(cluster.world.run(&cluster.args(&["get", unknown])).code, 3);
}

#[test]
fn a_run_is_named_by_the_first_characters_of_its_id_or_as_last() {
    let cluster = Cluster::start();
    let file = cluster.world.file("one.yaml", "tasks:\n  prepare: { noop: true }\n");
    let submit = |key: &str| {
        let run = cluster.object(&["submit", &file, "--idempotency-key", key])["run"].clone();
        run.as_str().unwrap().to_owned()
    };
    let (first, last) = (submit("a"), submit("b"));
    assert_eq!(cluster.object(&["get", "last"])["run"], json!(last));
    assert_eq!(cluster.object(&["get", &first[..12]])["run"], json!(first));
    assert_eq!(cluster.object(&["explain", "last", "prepare"])["run"], json!(last));
    cluster.world.ok(&cluster.args(&["watch", &first[..10]]));

    let unknown = cluster.world.run(&cluster.args(&["cancel", "ffffffff"]));
    assert_eq!(unknown.code, 3);
    assert!(unknown.stderr.contains("begins with ffffffff"), "{}", unknown.stderr);
    let short = cluster.world.run(&cluster.args(&["cancel", "fff"]));
    assert_eq!(short.code, 2);
    assert!(short.stderr.contains("at least 4"), "{}", short.stderr);
}

#[test]
fn a_wrong_task_name_suggests_the_nearest() {
    let cluster = Cluster::start();
    let file = cluster.world.file("one.yaml", "tasks:\n  prepare: { noop: true }\n");
    cluster.object(&["submit", &file]);
    for command in [&["explain", "last", "prepar"][..], &["logs", "last", "perpare"]] {
        let refused = cluster.world.run(&cluster.args(command));
        assert_eq!(refused.code, 3, "{}", refused.stderr);
        assert!(refused.stderr.contains("did you mean `prepare`?"), "{}", refused.stderr);
    }
}

#[test]
fn a_run_that_waits_for_placement_says_so() {
    let cluster = Cluster::start();
    let text = "tasks:\n  far: { run: 'true', labels: { require: { zone: moon } } }\n  \
                here: { sleep: 1000s }\n";
    let file = cluster.world.file("far.yaml", text);
    let follow = |args: &[&str]| {
        let mut command = cluster.world.command(&cluster.args(args));
        Process::start(command.stdout(Stdio::null()).stderr(Stdio::piped()))
    };
    let line = "task far waits: no worker can run it: w1 does not have the label zone in [moon] \
                (advice: add a worker that has what it asks for, or ask for less)\n";
    assert_eq!(follow(&["submit", &file, "--wait"]).wait_for(Source::Stderr, "task far"), line);

    let run = cluster.object(&["submit", &file])["run"].as_str().unwrap().to_owned();
    assert_eq!(follow(&["watch", &run]).wait_for(Source::Stderr, "task far"), line);
    let waiting = &cluster.object(&["get", &run])["waiting"];
    assert_eq!(waiting.as_array().unwrap().len(), 1, "{waiting}");
    assert_eq!((&waiting[0]["tasks"], &waiting[0]["code"]), (&json!(1), &json!("infeasible")));
}

#[test]
fn a_restricted_secret_is_used_by_its_namespaces_alone() {
    let cluster = Cluster::start_with(&[
        ("TOKEN", "a-long-secret"),
        ("KAHN_WORKER__SECRETS__TOKEN__ENV", "TOKEN"),
        ("KAHN_WORKER__SECRETS__TOKEN__NAMESPACES", "prod,etl"),
    ]);
    let text = "tasks:\n  use: { run: 'test $TOKEN = a-long-secret', \
                env: { TOKEN: { secret: token } } }\n";
    let file = cluster.world.file("use.yaml", text);
    for namespace in ["prod", "etl"] {
        let args = ["submit", &file, "--wait", "--namespace", namespace];
        cluster.world.ok(&cluster.args(&args));
    }
    let labels = &cluster.object(&["workers"])["labels"];
    assert_eq!(labels["secret/token"], "etl,prod", "{labels}");
    for namespace in ["dev", "default"] {
        cluster.object(&["submit", &file, "--namespace", namespace]);
        let why = cluster.object(&["explain", "last", "use"]);
        let message = format!(
            "no worker can run it: w1 does not give secret `token` to namespace `{namespace}`"
        );
        assert_eq!((&why["code"], &why["message"]), (&json!("infeasible"), &json!(message)));
    }
}

#[test]
fn a_wrong_token_is_refused() {
    let cluster = Cluster::start();
    let mut command = cluster.world.command(&cluster.args(&["list"]));
    let output = command.env("KAHN_TOKEN", "x".repeat(40)).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_refused_worker_names_the_file_of_its_token() {
    let cluster = Cluster::start();
    let file = cluster.world.path().join("data/client.token").display().to_string();
    let dir = cluster.world.path().join("w2").display().to_string();
    let own = ["--name", "w2", "--data-dir", &dir, "--token-file", &file];
    let args = [&["worker", "--health-listen", "127.0.0.1:0"][..], &own].concat();
    let mut command = cluster.world.command(&cluster.args(&args));
    command.env("NO_COLOR", "1").stderr(Stdio::piped());
    let mut worker = Process::start(&mut command);
    let warning = worker.wait_for_line(Source::Stderr, |line| line.contains("WARN"));
    assert!(warning.contains(&format!("refuses this worker's token from file {file}")));
}

#[test]
fn a_coordinator_ends_in_good_order_when_asked() {
    let cluster = Cluster::start();
    cluster.coordinator.signal("TERM");
    assert_eq!(cluster.coordinator.end().0, 0);
}
