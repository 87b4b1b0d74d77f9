//! Every kind of cause, produced by real components and shown by every command.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use kahn_e2e::{
    Answer, Cluster, ClusterOptions, Engine, IMAGE, NeverDoneServer, Store, WorkerOptions,
    example_worker_path, free_port, kahn, wait_until, warn_no_engine,
};
use kahn_model::CauseKind;
use serde_json::Value;

/// A task and its expected end.
struct Case {
    task: &'static str,
    /// The task's definition in the file, in YAML. `SERVER`, `CLOSED`, `DIR` and `IMAGE` are
    /// replaced.
    yaml: &'static str,
    kind: CauseKind,
    code: Option<i64>,
    /// The expected human-readable message beside the cause.
    says: &'static str,
}

const fn case(task: &'static str, yaml: &'static str, kind: CauseKind, says: &'static str) -> Case {
    Case { task, yaml, kind, code: None, says }
}

const fn with_code(code: i64, case: Case) -> Case {
    Case { code: Some(code), ..case }
}

/// The cases that run together on one cluster.
const CASES: &[Case] = &[
    with_code(3, case("exit-code", "run: exit 3", CauseKind::ExitCode, "exit code 3")),
    with_code(11, case("signal", "run: kill -SEGV $$", CauseKind::Signal, "SIGSEGV")),
    // `holder` takes the only slot that fits it.
    case(
        "queue-timeout",
        "noop: true\n    resources: { gpu: 1 }\n    timeouts: { queue: 300ms }",
        CauseKind::QueueTimeout,
        // The message varies. Usually it says that all workers or a suitable one are busy.
        "",
    ),
    // `python-holder` takes the only interpreter.
    case(
        "start-timeout",
        "python: { function: \"calls:wait\", input: 0 }\n    working_dir: DIR\n    \
         labels: { require: { python: one } }\n    needs: [{ task: python-holder, when: started }]\n    \
         timeouts: { start: 300ms }",
        CauseKind::StartTimeout,
        "within 300ms",
    ),
    case(
        "run-timeout",
        "exec: [sleep, \"1000\"]\n    timeouts: { run: 200ms }",
        CauseKind::RunTimeout,
        "ran for longer than 200ms",
    ),
    case(
        "run-timeout-of-sleep",
        "sleep: 1000s\n    timeouts: { run: 200ms }",
        CauseKind::RunTimeout,
        "ran for longer than 200ms",
    ),
    case("image", "exec: [no-such-program]", CauseKind::Image, "no-such-program"),
    case(
        "infeasible",
        "noop: true\n    resources: { gpu: 99 }",
        CauseKind::Infeasible,
        "gpu=99 is asked for",
    ),
    case("dependency", "noop: true\n    needs: [exit-code]", CauseKind::Dependency, "exit-code"),
    case(
        "dependency-timeout",
        "noop: true\n    needs: [{ task: holder, timeout: 200ms }]",
        CauseKind::Dependency,
        "holder",
    ),
    case(
        "policy",
        "http: { url: \"http://169.254.169.254/latest\" }",
        CauseKind::Policy,
        "169.254.169.254",
    ),
    case("condition", "noop: true\n    if: 1 > 2", CauseKind::Condition, "condition is false"),
    case(
        "expression",
        "exec: [echo, \"${{ tasks.noop.outputs.nothing + 1 }}\"]\n    needs: [noop]",
        CauseKind::Expression,
        "nothing",
    ),
    case(
        "circuit-open",
        "noop: true\n    needs: [{ task: breaks, when: failed }]\n    \
         circuit: { key: target, failures: 1, cool_down: 1h }\n    timeouts: { queue: 200ms }",
        CauseKind::CircuitOpen,
        "breaker target is open",
    ),
    case(
        "exception-of-python",
        "python: { function: \"calls:fail\", input: 0 }\n    working_dir: DIR\n    \
         labels: { require: { python: many } }",
        CauseKind::Exception,
        "ValueError: no such thing",
    ),
    case(
        "exception-of-function",
        "function: { name: count_words, input: { text: \"\" } }",
        CauseKind::Exception,
        "there are no words",
    ),
    case(
        "panic",
        "function: { name: average, input: { numbers: [] } }",
        CauseKind::Panic,
        "divide by zero",
    ),
    with_code(
        404,
        case("http-status", "http: { url: \"SERVER/404/a\" }", CauseKind::HttpStatus, "404"),
    ),
    case(
        "unknown-host",
        "http: { url: \"http://no-such-host.invalid/\" }",
        CauseKind::Unreachable,
        "no-such-host.invalid",
    ),
    case("refused", "http: { url: \"CLOSED\" }", CauseKind::Unreachable, "refused"),
];

/// Cases that require a container engine.
const CONTAINERS: &[Case] = &[
    case(
        "out-of-memory",
        "container: { image: IMAGE, pull: never, args: [eat] }\n    resources: { memory: 16Mi }",
        CauseKind::OutOfMemory,
        "16777216 bytes",
    ),
    case(
        "no-image",
        "container: { image: \"kahn-e2e-no-such-image:1\", pull: never }",
        CauseKind::Image,
        "kahn-e2e-no-such-image",
    ),
];

/// Tasks that make the others fail.
const HELPERS: &str = "
  noop: { noop: true }
  holder: { sleep: 3s, resources: { gpu: 1 }, priority: 100 }
  python-holder:
    python: { function: \"calls:wait\", input: 2 }
    working_dir: DIR
    labels: { require: { python: one } }
  breaks:
    run: exit 1
    circuit: { key: target, failures: 1, cool_down: 1h }
";

const PYTHON: &str = "
import time

def wait(seconds):
    time.sleep(seconds)

def fail(_):
    raise ValueError('no such thing')
";

/// Kinds that `CASES` does not produce, with the test that does or the reason why none can.
const ELSEWHERE: &[(CauseKind, &str)] = &[
    (CauseKind::OutOfMemory, "in CONTAINERS: needs an engine"),
    (CauseKind::WorkerLost, "a_lost_and_a_broken_worker_are_told_apart"),
    (CauseKind::Preempted, "a_lost_and_a_broken_worker_are_told_apart"),
    (CauseKind::Cancelled, "a_cancelled_run_says_by_whom_and_why"),
    (CauseKind::Deadline, "a_cancelled_run_says_by_whom_and_why"),
];

#[test]
fn no_cause_is_left_out() {
    for kind in CauseKind::ALL {
        let is_produced = CASES.iter().any(|case| case.kind == kind);
        let is_elsewhere = ELSEWHERE.iter().any(|(other, _)| *other == kind);
        assert!(is_produced || is_elsewhere, "nothing produces {kind}");
    }
}

fn worker(name: &str, capacity: &str, label: (&str, &str), more: &[(&str, &str)]) -> WorkerOptions {
    let usual = [("KAHN_WORKER__HTTP__ALLOW", "127.0.0.1")];
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    WorkerOptions {
        name: name.into(),
        capacity: capacity.into(),
        label: (label.0.into(), label.1.into()),
        environment: usual.iter().chain(more).map(owned).collect(),
        program: None,
    }
}

/// Everything that `kahn` shows about a run and its tasks.
struct Shown {
    waited: Answer,
    summary: Value,
    get: String,
    tasks: BTreeMap<String, Value>,
    events: String,
    happened: Vec<Value>,
}

impl Shown {
    /// Runs a file to its end and collects all output.
    fn of(cluster: &Cluster, file: &Path, between: impl FnOnce(&str)) -> anyhow::Result<Self> {
        let file = file.display().to_string();
        let run = cluster.kahn(&["submit", &file, "--output", "json"])?.ok()?.json()?;
        let run = run["run"].as_str().context("no run")?.to_owned();
        between(&run);
        Self::of_run(cluster, &run)
    }

    /// Waits for the end of a run and collects all output.
    fn of_run(cluster: &Cluster, run: &str) -> anyhow::Result<Self> {
        let summary = cluster.kahn(&["watch", run, "--output", "json"])?;
        let waited = cluster.kahn(&["watch", run])?;
        let json = |args: &[&str]| cluster.kahn(&[args, &["--output", "json"]].concat())?.ok();
        let text = |args: &[&str]| Ok::<_, anyhow::Error>(cluster.kahn(args)?.ok()?.stdout);
        let listed = json(&["get", run, "--tasks"])?.json()?;
        let mut tasks = BTreeMap::new();
        for task in listed["task_list"].as_array().context("no tasks")? {
            tasks.insert(task["task"].as_str().unwrap_or_default().to_owned(), task.clone());
        }
        let shown = Self {
            summary: summary.json()?,
            waited,
            get: text(&["get", run, "--tasks"])?,
            tasks,
            events: text(&["events", run])?,
            happened: json(&["events", run])?.json_lines()?,
        };
        for case in tasks_of(&shown) {
            let explained = text(&["explain", run, &case])?;
            let message = shown.tasks[&case]["message"].as_str().unwrap_or_default();
            for line in message.lines() {
                let line: String = line.chars().filter(|c| !c.is_control()).collect();
                assert!(explained.contains(&line), "{case}: {line}: {explained}");
            }
        }
        Ok(shown)
    }

    /// Checks that every command shows the end of the task.
    fn check(&self, case: &Case) {
        let Case { task, kind, code, says, .. } = case;
        let words = words(*kind, *code);
        let is_it = |found: &Value| {
            found["cause"] == kind.as_str()
                && found["cause_code"].as_i64() == *code
                && (found["message"].as_str().unwrap_or_default().contains(says)
                    || words.contains(says))
        };
        assert!(is_it(&self.tasks[*task]), "get: {}", self.tasks[*task]);
        let ended = self.happened.iter().find(|event| {
            event["task"] == *task
                && matches!(
                    event["type"].as_str(),
                    Some("task_failed" | "task_skipped" | "task_cancelled")
                )
        });
        assert!(ended.is_some_and(is_it), "events: {ended:?}");
        self.check_line("get", &self.get, case);
        self.check_line("events", &self.events, case);
        if self.tasks[*task]["state"] != "failed" {
            return;
        }
        let failed = self.summary["failed"].as_array().into_iter().flatten();
        let in_summary = failed.into_iter().find(|failed| failed["task"] == *task);
        assert!(in_summary.is_some_and(is_it), "summary: {in_summary:?}");
        // The summary itself names some tasks, and the output before it names all.
        let printed = format!("{}\n{}", self.waited.stdout, self.waited.stderr);
        self.check_line("watch", &printed, case);
    }

    /// Checks that one line contains the task, the cause and the message.
    fn check_line(&self, place: &str, text: &str, case: &Case) {
        let words = words(case.kind, case.code);
        let is_told = |line: &str| {
            line.split_whitespace().any(|word| word.trim_end_matches(':') == case.task)
                && line.contains(&words)
                && line.contains(case.says)
        };
        assert!(text.lines().any(is_told), "{place} does not tell of {}:\n{text}", case.task);
    }
}

fn tasks_of(shown: &Shown) -> Vec<String> {
    let ended = |task: &&Value| task["cause"].is_string();
    let name = |task: &Value| task["task"].as_str().unwrap_or_default().to_owned();
    shown.tasks.values().filter(ended).map(name).collect()
}

/// Formats a cause as in text output.
fn words(kind: CauseKind, code: Option<i64>) -> String {
    let words = kind.as_str().replace('_', " ");
    match code {
        Some(code) => format!("{words} {code}"),
        None => words,
    }
}

#[test]
fn every_cause_is_shown_by_get_events_explain_and_the_summary() -> anyhow::Result<()> {
    let files = tempfile::tempdir()?;
    std::fs::write(files.path().join("calls.py"), PYTHON)?;
    let (server, closed) = (NeverDoneServer::start()?, free_port()?);
    let engine = Engine::find()?;
    let mut many = worker("many", "cpu=4 memory=1Gi gpu=1", ("python", "many"), &[]);
    let mut own = worker("own", "cpu=4 memory=1Gi", ("zone", "eu"), &[]);
    own.program = Some(example_worker_path());
    let limit = ("KAHN_WORKER__PYTHON__INTERPRETERS_MAX", "1");
    let one = worker("one", "cpu=4 memory=1Gi", ("python", "one"), &[limit]);
    let mut cases: Vec<&Case> = CASES.iter().collect();
    match &engine {
        Some(engine) => {
            many.environment.extend(engine.environment());
            cases.extend(CONTAINERS);
        }
        None => warn_no_engine("causes that need a container"),
    }
    let options = ClusterOptions { store: Store::Embedded, workers: vec![many, own, one] };
    let quickly = [("KAHN_COORDINATOR__INFEASIBLE_GRACE".to_owned(), "1s".to_owned())];
    let cluster = Cluster::start_with(&options, &quickly)?;
    let mut text = format!("name: causes\npolicy: {{ on_failure: continue }}\ntasks:{HELPERS}");
    for Case { task, yaml, .. } in &cases {
        text.push_str(&format!("  {task}:\n    {yaml}\n"));
    }
    let text = text
        .replace("SERVER", &format!("http://127.0.0.1:{}", server.port))
        .replace("CLOSED", &format!("http://127.0.0.1:{closed}/"))
        .replace("DIR", &files.path().display().to_string())
        .replace("IMAGE", IMAGE);
    let file = cluster.write("causes.yaml", &text)?;
    let shown = Shown::of(&cluster, &file, |_| {})?;
    cases.iter().for_each(|case| shown.check(case));
    assert_eq!((shown.waited.code, &shown.summary["state"]), (1, &"failed".into()));
    Ok(())
}

fn holds(cluster: &Cluster, run: &str, task: &str) -> bool {
    let listed = cluster.kahn(&["get", run, "--tasks", "--output", "json"]);
    let listed = listed.and_then(|answer| answer.json()).unwrap_or_default();
    let mut tasks = listed["task_list"].as_array().into_iter().flatten();
    tasks.any(|found| found["task"] == task && found["state"] == "running")
}

#[test]
fn a_lost_and_a_broken_worker_are_told_apart() -> anyhow::Result<()> {
    let victim = worker("victim", "cpu=1 memory=1Gi", ("role", "victim"), &[]);
    let broken = worker("broken", "cpu=1 memory=1Gi", ("role", "broken"), &[]);
    let options = ClusterOptions { store: Store::Embedded, workers: vec![victim, broken] };
    let mut cluster = Cluster::start(&options)?;
    // The worker cannot store the files of an attempt, which is not the fault of the attempt.
    let scratch = cluster.worker_dir("broken").join("scratch");
    std::fs::remove_dir_all(&scratch)?;
    std::fs::write(&scratch, "in the way")?;
    let text = "name: workers\npolicy: { on_failure: continue }\ndefaults:\n  \
                retry: { crash_limit: 1 }\ntasks:\n  \
                lost: { exec: [sleep, \"1000\"], labels: { require: { role: victim } } }\n  \
                given-up: { exec: [sleep, \"1\"], labels: { require: { role: broken } } }\n";
    let file = cluster.write("workers.yaml", text)?;
    let file_name = file.display().to_string();
    let run = cluster.kahn(&["submit", &file_name, "--output", "json"])?.ok()?.json()?;
    let run = run["run"].as_str().context("no run")?.to_owned();
    wait_until("the task to run", Duration::from_secs(20), || holds(&cluster, &run, "lost"))?;
    cluster.kill_worker("victim")?;
    let shown = Shown::of_run(&cluster, &run)?;
    shown.check(&case("lost", "", CauseKind::WorkerLost, "nothing was heard of victim for 5s"));
    shown.check(&case("given-up", "", CauseKind::Preempted, "scratch directory"));
    Ok(())
}

#[test]
fn a_cancelled_run_says_by_whom_and_why() -> anyhow::Result<()> {
    let workers = vec![worker("w", "cpu=2 memory=1Gi", ("zone", "eu"), &[])];
    let cluster = Cluster::start(&ClusterOptions { store: Store::Embedded, workers })?;
    let tasks =
        "tasks:\n  held: { exec: [sleep, \"1000\"] }\n  waits: { noop: true, needs: [held] }\n";

    let file = cluster.write("cancelled.yaml", &format!("name: cancelled\n{tasks}"))?;
    let shown = Shown::of(&cluster, &file, |run| {
        wait_until("the task to run", Duration::from_secs(20), || holds(&cluster, run, "held"))
            .expect("the task runs");
        let answer = cluster.kahn(&["cancel", run, "--reason", "wrong data"]);
        assert_eq!(answer.map(|answer| answer.code).ok(), Some(0));
    })?;
    for task in ["held", "waits"] {
        shown.check(&case(task, "", CauseKind::Cancelled, "wrong data"));
    }
    assert_eq!(shown.waited.code, 4);
    for text in [&shown.waited.stdout, &shown.waited.stderr, &shown.get, &shown.events] {
        assert!(text.contains("cancelled: wrong data"), "{text}");
    }

    let text = format!("name: late\npolicy: {{ timeout: 300ms }}\n{tasks}");
    let shown = Shown::of(&cluster, &cluster.write("late.yaml", &text)?, |_| {})?;
    let why = "did not end within 300ms";
    for task in ["held", "waits"] {
        shown.check(&case(task, "", CauseKind::Cancelled, why));
    }
    assert_eq!(shown.summary["reason"], "deadline: the run did not end within 300ms");
    for text in [&shown.waited.stdout, &shown.waited.stderr, &shown.get, &shown.events] {
        assert!(text.contains("deadline: the run did not end within 300ms"), "{text}");
    }

    let failing = "  fails: { run: \"sleep 0.3; exit 1\" }\n";
    let text = format!("name: halted\npolicy: {{ on_failure: fail_fast }}\n{tasks}{failing}");
    let shown = Shown::of(&cluster, &cluster.write("halted.yaml", &text)?, |_| {})?;
    shown.check(&case("held", "", CauseKind::Cancelled, "task fails failed"));
    Ok(())
}

#[test]
fn a_local_run_tells_its_failures_too() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("bad.yaml");
    std::fs::write(&file, "name: bad\ntasks:\n  a: { exec: [no-such-program] }\n")?;
    let env = [("KAHN_DATA_DIR".to_owned(), dir.path().display().to_string())];
    let answer = kahn(&["run", &file.display().to_string()], &env)?;
    for text in [&answer.stdout, &answer.stderr] {
        assert!(text.contains("image: ") && text.contains("no-such-program"), "{answer:?}");
    }
    Ok(())
}
