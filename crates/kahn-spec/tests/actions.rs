//! Compilation of the actions `function`, `python`, `container` and `http`.

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_model::{
    Action, Body, Cause, CauseKind, Failure, LabelRule, Outputs, PodOptions, PullPolicy,
    StatusRange, TaintEffect, TaskState, Value, VolumeSource,
};
use kahn_spec::{Scope, TaskView, compile, render_work};

fn action(task: &str) -> Action {
    let source = format!("params: {{n: 3, word: hi}}\ntasks:\n  a: {{noop: true}}\n  t: {task}\n");
    let compiled = compile(source.as_bytes(), "dag.yaml", &BTreeMap::new());
    let dag = compiled.unwrap_or_else(|report| panic!("{}", report.render())).dag;
    dag.work(dag.task_by_name("t").expect("the task is there")).action.clone()
}

fn refusal(task: &str) -> String {
    let source = format!("tasks:\n  a: {{noop: true}}\n  t: {task}\n");
    match compile(source.as_bytes(), "dag.yaml", &BTreeMap::new()) {
        Ok(_) => panic!("{task} is taken"),
        Err(report) => report.render(),
    }
}

#[test]
fn a_name_alone_calls_a_function_without_input() {
    let Action::Function(call) = action("{function: resize}") else { panic!() };
    assert_eq!((&*call.name, call.input.as_str()), ("resize", "null"));
    let Action::Python(call) = action("{python: \"pkg.images:resize\"}") else { panic!() };
    assert_eq!((&*call.function, call.input.as_str()), ("pkg.images:resize", "null"));
    assert_eq!(call.interpreter, None);
}

#[test]
fn a_function_asks_for_a_worker_that_has_it() {
    let source = "tasks: {t: {function: resize}}";
    let dag = compile(source.as_bytes(), "dag.yaml", &BTreeMap::new()).unwrap().dag;
    let task = dag.task_by_name("t").unwrap();
    let rule = LabelRule::Exists { key: "function/resize".into() };
    assert_eq!(dag.profile(task).selector.required, [rule]);
}

#[test]
fn a_text_that_is_one_expression_becomes_its_value() {
    let task = r#"{function: {name: f, input: {n: "${{ params.n }}", s: "n=${{ params.n }}"}}}"#;
    let Action::Function(call) = action(task) else { panic!() };
    assert_eq!(call.input.as_str(), r#"{"n":3,"s":"n=3"}"#);
}

#[test]
fn what_is_known_later_is_put_in_later() {
    let source = r#"
tasks:
  a: {noop: true}
  t:
    needs: [a]
    function:
      name: f
      input: {rows: "${{ tasks.a.outputs.rows }}", text: "<${{ tasks.a.outputs.rows }}>"}
"#;
    let dag = compile(source.as_bytes(), "dag.yaml", &BTreeMap::new()).unwrap().dag;
    let work = dag.work(dag.task_by_name("t").unwrap());
    assert!(work.is_dynamic());
    let outputs = Outputs(BTreeMap::from([("rows".into(), Value::from_json("[1,2]"))]));
    let a = TaskView { status: TaskState::Succeeded, outputs, exit_code: None };
    let scope = Scope { tasks: BTreeMap::from([("a".into(), a)]), ..Scope::default() };
    let Action::Function(call) = render_work(work, &scope).unwrap().action else { panic!() };
    assert_eq!(call.input.as_str(), r#"{"rows":[1,2],"text":"<[1,2]>"}"#);
}

#[test]
fn a_container_has_what_the_file_says_and_safe_defaults() {
    let task = "{container: {image: \"alpine:3\", args: [ls, \"${{ params.word }}\"], \
                mounts: [{source: /data, target: /in}], ports: [{container: 80}]}}";
    let Action::Container(container) = action(task) else { panic!() };
    assert_eq!(container.image.as_str(), "alpine:3");
    assert_eq!(container.args[1].as_str(), "hi");
    assert_eq!((container.pull, container.user), (PullPolicy::Missing, None));
    assert!(!container.mounts[0].is_writable);
    assert_eq!((container.ports[0].container, container.ports[0].host), (80, 0));
}

#[test]
fn a_container_via_kubernetes_is_a_pod_with_what_the_file_says() {
    let task = r#"{container: {image: i, args: ["${{ params.word }}"], via: kubernetes, kubernetes: {
        service_account: reader, node_selector: {disk: ssd}, labels: {team: a},
        tolerations: [{key: example.com/spot, effect: NoSchedule}, {key: "*"}],
        annotations: {note: "a b"}, image_pull_secrets: registry, priority_class: low,
        volumes: [{claim: data, target: /data}, {empty: true, target: /scratch}]}}}"#;
    let Action::Pod(pod) = action(task) else { panic!() };
    assert_eq!(pod.container.args[0].as_str(), "hi");
    let options = pod.options;
    assert_eq!(options.service_account.as_deref(), Some("reader"));
    assert_eq!(options.node_selector, [("disk".into(), "ssd".into())]);
    assert_eq!(options.tolerations[0].effect, Some(TaintEffect::NoSchedule));
    assert_eq!((&*options.tolerations[1].key, options.image_pull_secrets.len()), ("", 1));
    assert_eq!(options.volumes[0].source, VolumeSource::Claim("data".into()));
    assert_eq!((options.volumes[0].is_writable, options.volumes[1].is_writable), (false, true));

    let Action::Pod(plain) = action("{container: {image: i, via: kubernetes}}") else { panic!() };
    assert_eq!(plain.options, PodOptions::default());
    let Action::Container(_) = action("{container: {image: i, via: engine}}") else { panic!() };
}

#[test]
fn a_request_has_what_the_file_says_and_usual_defaults() {
    let task = r#"{http: {url: "https://h/", json: {n: "${{ params.n }}"}, method: post,
                   expect: [201, 300-302], until: response.json.done, every: 2s}}"#;
    let Action::Http(request) = action(task) else { panic!() };
    assert_eq!((&*request.method, request.timeout), ("POST", Duration::from_secs(30)));
    let Body::Json(json) = &request.body else { panic!() };
    assert_eq!(json.as_str(), r#"{"n":3}"#);
    let ranges = [StatusRange { from: 201, to: 201 }, StatusRange { from: 300, to: 302 }];
    assert_eq!(request.expect, ranges);
    let polling = request.polling.unwrap();
    assert_eq!(polling.every, Duration::from_secs(2));
    assert!(polling.until.0.contains("response.json.done"));

    let Action::Http(plain) = action("{http: {url: \"http://h\"}}") else { panic!() };
    assert_eq!((&*plain.method, plain.expect.as_slice()), ("GET", &[StatusRange::SUCCESS][..]));
    assert_eq!((plain.body, plain.polling), (Body::Empty, None));
}

#[test]
fn mistakes_in_actions_are_named() {
    for (task, expected) in [
        ("{function: {input: 1}}", "does not say what to call"),
        ("{function: \"a b\"}", "a b"),
        ("{python: resize}", "does not name a function of Python"),
        ("{python: \"os;x:y\"}", "does not name a function of Python"),
        ("{container: {args: [ls]}}", "names no image"),
        ("{container: {image: i, user: root}}", "is not a user of a container"),
        ("{container: {image: i, mounts: [{source: /a, target: b}]}}", "not an absolute path"),
        ("{container: {image: i, mounts: [{source: /a}]}}", "needs a `source` and a `target`"),
        ("{container: {image: i, ports: [{host: 1}]}}", "from 1 to 65535"),
        ("{container: {image: i, kubernetes: {}}}", "`kubernetes` needs `via: kubernetes`"),
        (
            "{container: {image: i, via: kubernetes, ports: [{container: 1}]}}",
            "no `ports` of a host",
        ),
        (
            "{container: {image: i, via: kubernetes, mounts: [{source: /a, target: /b}]}}",
            "no `mounts` of a host",
        ),
        (
            "{container: {image: i, via: kubernetes, kubernetes: {service_account: A}}}",
            "not a name of Kubernetes",
        ),
        (
            "{container: {image: i, via: kubernetes, kubernetes: {tolerations: [{}]}}}",
            "a toleration needs a `key`",
        ),
        (
            "{container: {image: i, via: kubernetes, kubernetes: {tolerations: [{key: a, effect: b}]}}}",
            "not an effect of a taint",
        ),
        (
            "{container: {image: i, via: kubernetes, kubernetes: {volumes: [{target: /a}]}}}",
            "exactly one of",
        ),
        (
            "{container: {image: i, via: kubernetes, kubernetes: {labels: {a: \"b c\"}}}}",
            "not the value of a label",
        ),
        ("{http: {method: GET}}", "has no `url`"),
        ("{http: {url: \"ftp://h\"}}", "is not an HTTP address"),
        ("{http: {url: \"http://h\", method: STEAL}}", "is not a method"),
        ("{http: {url: \"http://h\", expect: [99]}}", "is not a range of status codes"),
        ("{http: {url: \"http://h\", json: 1, body: x}}", "both `json` and `body`"),
        (
            "{http: {url: \"http://h\", until: \"tasks.a.status == 'x'\"}}",
            "may only use `response`",
        ),
        ("{http: {url: \"http://h\", until: \"true\", every: 1ms}}", "shorter than 100 ms"),
        ("{exec: [\"${{ response.status }}\"]}", "`response` is only available in `until`"),
        ("{http: {url: \"http://h\", headers: {\"a b\": c}}}", "the name of a header"),
    ] {
        let found = refusal(task);
        assert!(found.contains(expected), "{task}: {found}");
    }
}

#[test]
fn new_causes_can_be_retried_by_name() {
    let source = "tasks: {t: {http: {url: \"http://h\"}, retry: {max_attempts: 2, on: [http_status, unreachable]}}}";
    let dag = compile(source.as_bytes(), "dag.yaml", &BTreeMap::new()).unwrap().dag;
    let on = dag.profile(dag.task_by_name("t").unwrap()).retry.on;
    assert!(on.contains(CauseKind::HttpStatus) && on.contains(CauseKind::Unreachable));
    assert!(!on.contains(CauseKind::ExitCode));
}

#[test]
fn exceptions_can_be_retried_by_name() {
    let profile = |on: &str| {
        let source =
            format!("tasks: {{t: {{python: \"m:f\", retry: {{max_attempts: 2, on: {on}}}}}}}");
        let compiled = compile(source.as_bytes(), "dag.yaml", &BTreeMap::new());
        let dag = compiled.map_err(|found| found.render())?.dag;
        Ok::<_, String>((**dag.profile(dag.task_by_name("t").unwrap())).clone())
    };
    let raised = |name: &str| Failure::new(Cause::of(CauseKind::Exception), "").raised(name);
    let some =
        profile("[exit_code, \"exception:TimeoutError\", \"exception:requests.*\"]").unwrap();
    assert!(some.retries(&raised("TimeoutError")) && some.retries(&raised("requests.a.B")));
    assert!(!some.retries(&raised("ValueError")) && !some.retries(&raised("")));
    assert!(some.retries(&Failure::new(Cause::exit_code(1), "")));
    assert!(profile("exception").unwrap().retries(&raised("ValueError")));
    for (on, expected) in [
        ("\"exception:*\"", "does not name exceptions"),
        ("\"exception:a b\"", "`requests.exceptions.*`"),
        ("exeption", "did you mean `exception`?"),
        ("wrong_thing_entirely", "`exception:NAME` for one type"),
    ] {
        let found = profile(on).unwrap_err();
        assert!(found.contains(expected), "{on}: {found}");
    }
}
