//! Secrets reach the tasks that name them and appear nowhere else: not in stored data, logs,
//! responses or command lines.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use kahn_e2e::{
    Cluster, ClusterOptions, Engine, Process, Store, WorkerOptions, example_worker_path, free_port,
    wait_until, warn_no_engine,
};
use serde_json::Value;

/// Each contains characters that every encoding changes. The last one has several lines.
const CANARIES: [(&str, &str); 3] = [
    ("canary_env", "canary-One+/ \"é\" %41="),
    ("canary_file", "canary-Two'$HOME'\\n<&>="),
    ("canary_lines", "canary-three-first-line\ncanary-three-second-line"),
];
/// A value that the search must find, to show that it works.
const CONTROL: &str = "control-which-is-no-secret";

/// Responds with the hash of the header `Authorization`, or with the header itself.
const SERVER: &str = r#"
import hashlib, http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        given = self.headers["Authorization"] or ""
        given = given.encode("latin-1").decode()
        if self.path == "/hash":
            status, body = 200, {"hash": hashlib.sha256(given.encode()).hexdigest()}
        else:
            status, body = 418, {"who": given}
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status != 200:
            self.send_header("X-Given", given.encode().decode("latin-1"))
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

const MODULE: &str = r#"
import base64, hashlib, json, os, sys, time, urllib.parse
def look(how):
    token = os.environ["TOKEN"]
    print("whole:", token)
    sys.stdout.write("halves: " + token[:9]); sys.stdout.flush(); time.sleep(0.1)
    print(token[9:])
    print("base64:", base64.b64encode(token.encode()).decode(), base64.b64encode(("u:" + token).encode()).decode())
    print("quoted:", urllib.parse.quote(token), urllib.parse.quote_plus(token), json.dumps(token), repr(token))
    print(open(os.environ["FILE"]).read(), oct(os.stat(os.environ["FILE"]).st_mode))
    if how == "raise": raise ValueError("not with " + token)
    if how == "return": return {"leak": "x" + token}
    return {"hash": hashlib.sha256(token.encode()).hexdigest()}
"#;

/// An image with one static program, which prints its inputs and a hash of each.
const IMAGE: &str = "kahn-e2e-canary";
const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
static unsigned digest(const char *text) {
    unsigned sum = 0;
    while (*text) sum = sum * 31 + (unsigned char) *text++;
    return sum;
}
int main(void) {
    char text[4096] = "";
    FILE *file = fopen(getenv("FILE"), "r");
    if (!file) return 9;
    fread(text, 1, sizeof text - 1, file);
    printf("token %s %u\n", getenv("TOKEN"), digest(getenv("TOKEN")));
    printf("file %s %u\n", text, digest(text));
    return 0;
}
"#;

const SCRIPT: &str = r#"
      printf %s "$TOKEN" | sha256sum
      sha256sum < "$FILE"
      stat -c 'mode %a' "$FILE"
      echo "whole: $TOKEN"; cat "$FILE"; cat "$LINES"; echo "$LINES_TEXT" | tail -n 1
      first=$(printf %.9s "$TOKEN"); printf 'halves: %s' "$first"; sleep 0.1; printf '%s\n' "${TOKEN#"$first"}"
      printf %s "$TOKEN" | base64 -w0; echo; printf 'user:%s' "$TOKEN" | base64 -w0; echo
      echo "control: $CONTROL"
"#;

fn sha256(text: &str) -> anyhow::Result<String> {
    let mut child =
        Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().context("a pipe")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stdout).chars().take(64).collect())
}

fn digest(text: &str) -> u32 {
    text.bytes().fold(0, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
}

fn serve(dir: &Path) -> anyhow::Result<(Process, u16)> {
    let port = free_port()?;
    std::fs::write(dir.join("server.py"), SERVER)?;
    let mut command = Command::new("python3");
    command.arg(dir.join("server.py")).arg(port.to_string());
    Ok((Process::start_server(command, &dir.join("server.log"), port)?, port))
}

fn dag(port: u16, dir: &str, has_engine: bool) -> String {
    let container = match has_engine {
        true => format!("container: {{ image: {IMAGE}, pull: never }}"),
        false => "noop: true".to_owned(),
    };
    format!(
        r#"name: canaries
env: {{ CONTROL: {CONTROL} }}
defaults:
  env:
    TOKEN: {{ secret: canary_env }}
    FILE: {{ secret: canary_file, as: file }}
tasks:
  hold:
    run: while [ ! -e {dir}/release ]; do sleep 0.05; done
  run:
    env:
      LINES: {{ secret: canary_lines, as: file }}
      LINES_TEXT: {{ secret: canary_lines }}
    run: |{SCRIPT}
  exec: {{ exec: [env] }}
  exits: {{ run: "echo \"$TOKEN\" >&2; exit 3" }}
  output: {{ run: "echo \"leak=$TOKEN\" >> \"$KAHN_OUTPUT\"" }}
  python: {{ python: {{ function: "canary:look", input: say }}, working_dir: {dir} }}
  raises: {{ python: {{ function: "canary:look", input: raise }}, working_dir: {dir} }}
  returns: {{ python: {{ function: "canary:look", input: return }}, working_dir: {dir} }}
  function: {{ function: {{ name: unlock, input: cellar }}, env: {{ KEY: {{ secret: canary_env }} }} }}
  errs: {{ function: {{ name: unlock, input: attic }}, env: {{ KEY: {{ secret: canary_env }} }} }}
  panics: {{ function: {{ name: unlock, input: wall }}, env: {{ KEY: {{ secret: canary_env }} }} }}
  container: {{ {container} }}
  http:
    http:
      url: "http://127.0.0.1:{port}/hash"
      headers: {{ Authorization: {{ secret: canary_env, prefix: "Bearer " }} }}
  refused:
    http:
      url: "http://127.0.0.1:{port}/echo"
      headers: {{ Authorization: {{ secret: canary_env, prefix: "Bearer " }} }}
"#
    )
}

/// Returns all command lines on this host.
fn command_lines() -> String {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
}

/// Collects the files below `dir` with their contents.
fn files(dir: &Path, found: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else if path.is_file() {
            let bytes = std::fs::read(&path)?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            found.push((path.display().to_string(), text));
        }
    }
    Ok(())
}

/// Returns the parts of the canaries that must not be found, both plain and in common encodings.
fn needles() -> Vec<String> {
    let mut needles = Vec::new();
    for (_, canary) in CANARIES {
        needles.extend(canary.lines().map(str::to_owned));
        needles.extend(canary.lines().map(|line| line.chars().skip(7).collect::<String>()));
    }
    needles.extend(
        ["One%2B%2F%20", "One+/ \\\"", "Y2FuYXJ5LU9uZSsv", "NhbmFyeS1PbmUr", "jYW5hcnktT25l"]
            .map(str::to_owned),
    );
    needles
}

#[test]
fn a_canary_reaches_its_tasks_and_is_found_nowhere_else() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (_server, port) = serve(dir.path())?;
    std::fs::write(dir.path().join("canary.py"), MODULE)?;
    std::fs::write(dir.path().join("two"), format!("{}\n", CANARIES[1].1))?;
    std::fs::write(dir.path().join("three"), CANARIES[2].1)?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let engine = Engine::find()?;
    let environment = [
        ("KAHN_LOG", "debug".to_owned()),
        ("CANARY", CANARIES[0].1.to_owned()),
        ("KAHN_WORKER__SECRETS__CANARY_ENV__ENV", "CANARY".to_owned()),
        ("KAHN_WORKER__SECRETS__CANARY_FILE__FILE", path("two")),
        ("KAHN_WORKER__SECRETS__CANARY_LINES__FILE", path("three")),
        ("KAHN_WORKER__HTTP__ALLOW", "127.0.0.1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let mut environment = environment.to_vec();
    match &engine {
        Some(engine) => {
            engine.build_image(IMAGE, PROGRAM)?;
            environment.extend(engine.environment());
        }
        None => warn_no_engine("the container task"),
    }
    let worker = |name: &str, program| WorkerOptions {
        name: name.into(),
        capacity: "cpu=8 memory=1Gi".into(),
        label: ("zone".into(), "eu".into()),
        environment: environment.clone(),
        program,
    };
    let workers = vec![worker("plain", None), worker("own", Some(example_worker_path()))];
    let options = ClusterOptions { store: Store::RedisEverysec, workers };
    let debug = [("KAHN_LOG".to_owned(), "debug".to_owned())];
    let cluster = Cluster::start_with(&options, &debug)?;
    let file = cluster
        .write("canaries.yaml", &dag(port, &dir.path().display().to_string(), engine.is_some()))?;
    let file = file.display().to_string();
    let submitted = cluster.kahn(&["submit", &file, "--output", "json"])?.ok()?.json()?;
    let run = submitted["run"].as_str().context("a run")?.to_owned();

    let tasks = || -> anyhow::Result<Vec<Value>> {
        let answer = cluster.kahn(&["get", &run, "--tasks", "--output", "json"])?.ok()?.json()?;
        answer["task_list"].as_array().cloned().context("tasks")
    };
    let needles = needles();
    let mut on_command_lines = BTreeSet::new();
    wait_until("all tasks but one to end", Duration::from_secs(60), || {
        let lines = command_lines();
        on_command_lines.extend(needles.iter().filter(|needle| lines.contains(*needle)).cloned());
        let all = tasks().unwrap_or_default();
        let is_live = |task: &&Value| !["succeeded", "failed"].iter().any(|s| task["state"] == *s);
        all.len() == 14 && all.iter().filter(is_live).count() == 1
    })?;
    assert_eq!(on_command_lines, BTreeSet::new());
    std::fs::write(dir.path().join("release"), "")?;
    cluster.kahn(&["watch", &run])?;

    let all = tasks()?;
    let task = |name: &str| all.iter().find(|task| task["task"] == name).context("a task").cloned();
    let log =
        |name: &str| Ok::<_, anyhow::Error>(cluster.kahn(&["logs", &run, name])?.ok()?.stdout);
    let one = sha256(CANARIES[0].1)?;
    let printed = log("run")?;
    assert!(printed.contains(&one) && printed.contains(&sha256(CANARIES[1].1)?), "{printed}");
    assert!(printed.contains("mode 400") && printed.contains("whole: ***\n"), "{printed}");
    assert!(printed.contains("halves: ***\n") && printed.contains(CONTROL), "{printed}");
    assert!(log("exec")?.contains("TOKEN=***\n"));
    assert_eq!(task("python")?["outputs"]["hash"], *one);
    assert_eq!(
        task("http")?["outputs"]["json"]["hash"],
        *sha256(&format!("Bearer {}", CANARIES[0].1))?
    );
    assert_eq!(task("function")?["outputs"]["result"], true);
    if engine.is_some() {
        let [one, two, _] = CANARIES.map(|(_, canary)| digest(canary));
        assert_eq!(log("container")?, format!("token *** {one}\nfile *** {two}\n"));
    }
    for (name, cause, words) in [
        ("exits", "exit_code", ""),
        ("output", "policy", "`leak` holds a secret"),
        ("raises", "exception", "not with ***"),
        ("returns", "policy", "`leak` holds a secret"),
        ("errs", "exception", "*** does not fit"),
        ("panics", "panic", "*** broke"),
        ("refused", "http_status", "***"),
    ] {
        let task = task(name)?;
        let message = task["message"].as_str().unwrap_or_default();
        assert!(task["cause"] == cause && message.contains(words), "{name}: {task}");
    }

    cluster.redis.as_ref().context("redis")?.dump()?;
    let mut found = Vec::new();
    files(cluster.dir(), &mut found)?;
    for args in [
        &["get", &run, "--tasks", "--output", "json"][..],
        &["events", &run, "--output", "json"],
        &["explain", &run, "raises", "--output", "json"],
        &["workers", "--output", "json"],
        &["workers"],
        &["list", "--output", "json"],
    ] {
        let answer = cluster.kahn(args)?.ok()?;
        found.push((args.join(" "), answer.stdout + &answer.stderr));
    }
    for name in all.iter().filter_map(|task| task["task"].as_str()) {
        found.push((format!("log of {name}"), log(name)?));
    }
    found.push(("metrics".to_owned(), cluster.metrics()?));
    for (place, text) in &found {
        for needle in &needles {
            assert!(!text.contains(needle), "{needle:?} is in {place}");
        }
    }
    let seen = |part: &str| {
        found.iter().any(|(place, text)| place.contains(part) && text.contains(CONTROL))
    };
    assert!(seen("redis/") && seen(".rdb") && seen("coordinator/"), "the search finds nothing");
    let shown = cluster.kahn(&["workers"])?.ok()?.stdout;
    assert!(shown.contains("secret/canary_env ") && shown.contains("function/unlock"), "{shown}");
    Ok(())
}
