//! Compares the metrics that both processes expose with their description in the documentation.

#![expect(clippy::unwrap_used, reason = "a command that cannot be run fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Process, Source, World, wait_until};

const DOCUMENT: &str = include_str!("../../../../docs/operations.md");
const ANY: &str = "127.0.0.1:0";

/// The type of a metric, and the names of its labels.
type Described = (String, BTreeSet<String>);

/// Both processes, and the addresses of their metrics.
struct Cluster {
    world: World,
    /// The arguments with which clients reach the coordinator.
    at: [String; 4],
    coordinator_metrics: String,
    worker_metrics: String,
    _processes: [Process; 2],
}

impl Cluster {
    fn start() -> Self {
        let world = World::new();
        let certs = world.path().join("certs").display().to_string();
        for command in [&["certs", "init"][..], &["certs", "issue", "server"]] {
            world.ok(&[command, &["--dir", &certs]].concat());
        }
        let file = |name: &str| format!("{certs}/{name}");
        let (ca, cert, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
        let identity = ["--cert-file", &cert, "--key-file", &key];
        let args = ["coordinator", "--listen", ANY, "--health-listen", ANY, "--store", "memory"];
        let args = [&args[..], &identity].concat();
        let mut command = world.command(&[&args[..], &["--output", "json"]].concat());
        command.env("KAHN_COORDINATOR__POOLS__SMALL__CAPACITY", "cpu=1");
        let mut coordinator = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::null()));
        let said: Value = serde_json::from_str(&coordinator.wait_for(Source::Stdout, "{")).unwrap();
        let text = |key: &str| said[key].as_str().unwrap().to_owned();
        let (url, coordinator_metrics) = (text("url"), text("health"));
        let at = ["--coordinator".to_owned(), url, "--ca-file".to_owned(), ca];
        let args = ["worker", "--health-listen", ANY, "--name", "w1"];
        let args = [&args[..], &at.each_ref().map(String::as_str), &identity].concat();
        let mut command = world.command(&args);
        let mut worker = Process::start(command.env("NO_COLOR", "1").stderr(Stdio::piped()));
        let line = worker.wait_for_line(Source::Stderr, |line| line.contains("health checks"));
        let (_, address) = line.trim_end().split_once("address=").unwrap();
        let worker_metrics = address.split(' ').next().unwrap().to_owned();
        // Health is served first, and metrics are added while the process starts.
        wait_until("a ready process", || get(&worker_metrics, "/ready").is_some());
        for address in [&coordinator_metrics, &worker_metrics] {
            wait_until("the certificate", || metrics(address).contains("certificate_expiry"));
        }
        let _processes = [coordinator, worker];
        Self { world, at, coordinator_metrics, worker_metrics, _processes }
    }
}

/// Returns the body of a response, or `None` unless its status is 200.
fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: kahn\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

fn metrics(address: &str) -> String {
    get(address, "/metrics").unwrap()
}

/// Returns the metrics that a text in Prometheus' format exposes, by name.
fn exposed(text: &str) -> BTreeMap<String, Described> {
    let mut all = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.starts_with("# HELP ")) {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap();
            current = name.to_owned();
            all.insert(current.clone(), (kind.to_owned(), BTreeSet::new()));
        } else {
            assert!(line.starts_with(&current), "{line} is not a sample of {current}");
            let (_, labels) = all.get_mut(&current).unwrap();
            labels.extend(label_names(line).into_iter().filter(|label| label != "le"));
        }
    }
    all
}

/// Returns the names of the labels of a sample. No value in this test contains a comma.
fn label_names(sample: &str) -> Vec<String> {
    let Some((_, rest)) = sample.split_once('{') else { return Vec::new() };
    let (labels, _) = rest.rsplit_once('}').unwrap();
    labels.split(',').map(|label| label.split_once('=').unwrap().0.to_owned()).collect()
}

/// Returns the metrics in the table below this heading of the document, by name.
fn documented(heading: &str) -> BTreeMap<String, Described> {
    let (_, section) = DOCUMENT.split_once(&format!("\n### {heading}\n")).unwrap();
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, name, kind, labels, meaning, _] = cells[..] else { panic!("{row}") };
        assert!(!meaning.is_empty(), "{row}");
        let labels = labels.split(", ").filter(|label| !label.is_empty());
        let labels = labels.map(|label| label.trim_matches('`').to_owned()).collect();
        (name.trim_matches('`').to_owned(), (kind.to_owned(), labels))
    })
    .collect()
}

#[track_caller]
fn assert_documented(text: &str, heading: &str) {
    let mut expected = documented("Metrics of both processes");
    expected.extend(documented(heading));
    let exposed = exposed(text);
    let names = |of: &BTreeMap<String, Described>| of.keys().cloned().collect::<BTreeSet<_>>();
    let (is, should) = (names(&exposed), names(&expected));
    let undocumented: Vec<_> = is.difference(&should).collect();
    let missing: Vec<_> = should.difference(&is).collect();
    assert!(undocumented.is_empty(), "not in the table of docs/operations.md: {undocumented:?}");
    assert!(missing.is_empty(), "in the table of docs/operations.md only: {missing:?}");
    assert_eq!(exposed, expected, "types or labels differ");
}

/// Checks names, units and help against the conventions of Prometheus.
#[expect(clippy::print_stdout, reason = "a check that was not run must be reported")]
fn assert_conventional(text: &str) {
    let command = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = command else {
        println!("NOT RUN: promtool is not installed");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

#[test]
fn the_documented_metrics_are_exactly_those_that_are_exposed() {
    let cluster = Cluster::start();
    let coordinator = metrics(&cluster.coordinator_metrics);
    let worker = metrics(&cluster.worker_metrics);
    assert_documented(&coordinator, "Metrics of the coordinator");
    assert_documented(&worker, "Metrics of the worker");
    assert_conventional(&coordinator);
    assert_conventional(&worker);
    for (text, purpose) in [(&coordinator, "server"), (&worker, "client")] {
        let name = format!("kahn_certificate_expiry_timestamp_seconds{{purpose=\"{purpose}\"}} ");
        let expiry = text.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
        assert!(expiry.parse::<u64>().unwrap() > 1_700_000_000, "{expiry}");
    }
}

#[test]
fn a_run_leaves_its_marks_in_the_metrics_of_both_processes() {
    let cluster = Cluster::start();
    let text = "tasks:\n  a: { run: echo hello }\n  b: { run: exit 3, needs: [a] }\n  \
                c: { run: 'true', labels: { require: { zone: moon } } }\n";
    let file = cluster.world.file("three.yaml", text);
    let at = cluster.at.each_ref().map(String::as_str);
    let args = ["submit", &file, "--namespace", "team"];
    let submitted = cluster.world.object(&[&args[..], &at].concat());
    let run = submitted["run"].as_str().unwrap();
    let has_failed = || {
        let args = [&["get", run, "--tasks"][..], &at].concat();
        cluster.world.ok(&args).contains("exit code 3")
    };
    wait_until("the end of the run", has_failed);

    let demand = "kahn_demand_tasks{executor=\"process\",labels=\"zone=moon\"} 1";
    let coordinator = || metrics(&cluster.coordinator_metrics);
    wait_until("the demand", || coordinator().lines().any(|line| line == demand));
    let (coordinator, worker) = (coordinator(), metrics(&cluster.worker_metrics));
    for line in [
        "kahn_queue_wait_seconds_count{namespace=\"team\"} 2",
        "kahn_start_wait_seconds_count 2",
        "kahn_attempt_duration_seconds_count{action=\"process\"} 2",
        "kahn_attempts_total{outcome=\"exit_code\"} 1",
        "kahn_tasks_failed_total{cause=\"exit_code\"} 1",
        "kahn_workers{state=\"attached\"} 1",
        "kahn_runs{state=\"active\"} 1",
    ] {
        assert!(coordinator.lines().any(|found| found == line), "{line} is not in:\n{coordinator}");
    }
    for histogram in ["kahn_store_append_seconds_count ", "kahn_driver_round_seconds_count "] {
        let count = coordinator.lines().find_map(|line| line.strip_prefix(histogram)).unwrap();
        assert!(count.parse::<u64>().unwrap() > 0, "{histogram}{count}");
    }
    for line in [
        "kahn_worker_attempts_total{action=\"process\",outcome=\"succeeded\"} 1",
        "kahn_worker_attempts_total{action=\"process\",outcome=\"exit_code\"} 1",
        "kahn_worker_output_bytes_total 6",
        "kahn_worker_connected 1",
        "kahn_worker_reconnects_total 0",
    ] {
        assert!(worker.lines().any(|found| found == line), "{line} is not in:\n{worker}");
    }
    assert_conventional(&coordinator);
    assert_conventional(&worker);
}
