//! Every action of the DAG file, with real components, on a cluster of two workers.

use std::path::Path;
use std::process::Command;

use kahn_e2e::{
    Cluster, ClusterOptions, Engine, IMAGE, Process, Store, WorkerOptions, example_worker_path,
    free_port, warn_no_engine,
};

/// Serves the files of a directory over HTTP.
fn serve(dir: &Path) -> anyhow::Result<(Process, u16)> {
    let port = free_port()?;
    let mut command = Command::new("python3");
    command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).current_dir(dir);
    Ok((Process::start_server(command, &dir.join("server.log"), port)?, port))
}

fn dag(port: u16, dir: &str, has_engine: bool) -> String {
    let container = if has_engine {
        format!(
            "  container:\n    needs: [exec]\n    \
             container: {{ image: {IMAGE}, pull: never, args: [hello, quick] }}\n    outputs: [word]\n"
        )
    } else {
        "  container:\n    needs: [exec]\n    run: echo word=quick >> \"$KAHN_OUTPUT\"\n    \
         outputs: [word]\n"
            .to_owned()
    };
    format!(
        r#"name: every-action
tasks:
  run:
    run: echo "n:=3" >> "$KAHN_OUTPUT"
    outputs: [n]
  exec:
    needs: [run]
    exec: [/bin/echo, "${{{{ tasks.run.outputs.n }}}}"]
  sleep: {{ sleep: 10ms }}
  noop: {{ noop: true, needs: [sleep] }}
{container}  python:
    needs: [run]
    python: {{ function: "sums:total", input: {{ up_to: "${{{{ tasks.run.outputs.n }}}}" }} }}
    working_dir: {dir}
    outputs: [total]
  http:
    needs: [noop]
    http: {{ url: "http://127.0.0.1:{port}/answer.json", until: "response.json.answer == 42" }}
    outputs: [json]
  function:
    needs: [python, http, container]
    function:
      name: count_words
      input:
        text: "${{{{ tasks.container.outputs.word }}}} ${{{{ tasks.python.outputs.total }}}}"
    outputs: [total]
  check:
    needs: [function]
    if: tasks.function.outputs.total == 2
    noop: true
"#
    )
}

#[test]
fn one_file_uses_every_action_on_a_cluster_of_two_workers() -> anyhow::Result<()> {
    let files = tempfile::tempdir()?;
    std::fs::write(files.path().join("answer.json"), "{\"answer\": 42}")?;
    let sums = "def total(given):\n    print('adding')\n    return {'total': sum(range(given['up_to'] + 1))}\n";
    std::fs::write(files.path().join("sums.py"), sums)?;
    let (_server, port) = serve(files.path())?;
    let engine = Engine::find()?;
    let mut environment = vec![("KAHN_WORKER__HTTP__ALLOW".to_owned(), "127.0.0.1".to_owned())];
    match &engine {
        Some(engine) => environment.extend(engine.environment()),
        None => warn_no_engine("the container task"),
    }
    let worker = |name: &str, program| WorkerOptions {
        name: name.into(),
        capacity: "cpu=2 memory=1Gi".into(),
        label: ("zone".into(), "eu".into()),
        environment: environment.clone(),
        program,
    };
    let workers = vec![worker("plain", None), worker("own", Some(example_worker_path()))];
    let cluster = Cluster::start(&ClusterOptions { store: Store::RedisEverysec, workers })?;
    let text = dag(port, &files.path().display().to_string(), engine.is_some());
    let file = cluster.write("every.yaml", &text)?.display().to_string();
    let summary = cluster.kahn(&["submit", &file, "--wait", "--output", "json"])?.ok()?.json()?;
    assert_eq!(summary["state"], "succeeded", "{summary}");
    assert_eq!(summary["tasks"]["succeeded"], 9, "{summary}");
    let run = summary["run"].as_str().unwrap_or_default();
    let log = |task: &str| Ok::<_, anyhow::Error>(cluster.kahn(&["logs", run, task])?.ok()?.stdout);
    assert!(log("python")?.contains("adding"));
    assert!(log("function")?.contains("reads 2 words"));
    if engine.is_some() {
        assert!(log("container")?.contains("hello from a container"));
    }
    Ok(())
}
