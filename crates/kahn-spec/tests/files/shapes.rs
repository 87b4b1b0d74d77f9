//! Compilation of valid DAG files.

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_model::{
    Action, CauseKind, DependencyKind, FailurePolicy, LabelRule, OnDisconnect, Shell, TaskIx,
    Trigger, When,
};
use kahn_spec::{
    ParamValue, Scope, TaskView, compile, evaluate_condition, references, render_work,
};

use crate::{good, none, task};

#[test]
fn the_examples_compile_without_warnings() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    for name in ["hello.yaml", "matrix.yaml", "failure.yaml", "diamond.json"] {
        let source = std::fs::read_to_string(format!("{examples}/{name}")).unwrap();
        let compiled = compile(&source, name, &none()).unwrap_or_else(|e| panic!("{}", e.render()));
        assert_eq!(compiled.warnings, None, "{name}");
    }
}

pub(crate) const FULL: &str = r#"
name: full
params:
  day: { type: string, default: mon, enum: [mon, tue] }
  n: 3
env: { A: file, B: file }
policy: { on_failure: { max_failures: 2 }, max_parallel: 10, timeout: 1h, priority: 5 }
defaults:
  retry: { max_attempts: 3, backoff: { initial: 2s } }
  resources: { memory: 64Mi }
  labels: { require: { zone: eu } }
  timeouts: { queue: 1h, grace: 5s }
  env: { B: defaults, C: 1.10 }
  shell: bash
  working_dir: /tmp
  estimate: 30s
tasks:
  first:
    run: echo "$PARAM_day"
    outputs: [rows]
    env: { C: "${{ params.day }}", COUNTRY: no, N: "${{ params.n + 1 }}" }
  second:
    needs:
      - first
    exec: [echo, 1.50, "${{ params.day }}", "${{ tasks.first.outputs.rows }}"]
    retry: { backoff: { kind: linear, max: 10s, jitter: false }, on: [timeout_stub] }
    timeout: 1h30m
"#;

#[test]
fn every_field_reaches_the_dag() {
    let source = FULL.replace(
        "on: [timeout_stub] }\n    timeout: 1h30m\n",
        "on: [run_timeout, signal], memory_multiplier: 1.5, timeout_multiplier: 2,
               crash_limit: 9, memory_max: 2Gi }
    timeout: 1h30m
    timeouts: { start: 10 }
    circuit: { key: api, failures: 3, cool_down: 30s }
    concurrency: [db, { key: net, limit: 4 }]
    priority: 7
    resources: { cpu: 0.5, license: 2 }
    labels: { prefer: [{ key: disk, op: not_in, values: [hdd] }, { key: gpu, op: absent }] }
    on_disconnect: stop
    estimate: 5m
    trigger: all_done
    if: tasks.first.outputs.rows > params.n
  third: { needs: { task: second, when: completed, kind: optional, timeout: 10s }, sleep: 500ms }
  fourth: { needs: [third, { task: first, kind: soft }], noop: {} }
",
    );
    let compiled = good(&source);
    let dag = &compiled.dag;
    let policy = dag.policy();
    assert_eq!(policy.on_failure, FailurePolicy::MaxFailures(2));
    assert_eq!((policy.max_parallel, policy.priority), (Some(10), 5));
    assert_eq!(policy.timeout, Some(Duration::from_secs(3600)));
    assert_eq!(compiled.params["n"], 3);

    let first = task(dag, "first");
    let work = dag.work(first);
    assert!(matches!(work.action, Action::Run { shell: Shell::Bash, .. }));
    let env: BTreeMap<&str, &str> =
        work.env.iter().map(|(name, value)| (&**name, value.as_str())).collect();
    let expected = [
        ("A", "file"),
        ("B", "defaults"),
        ("C", "mon"),
        ("COUNTRY", "no"),
        ("N", "4"),
        ("PARAM_day", "mon"),
        ("PARAM_n", "3"),
    ];
    assert_eq!(env, BTreeMap::from(expected));
    assert_eq!(work.working_dir.as_ref().map(kahn_model::Text::as_str), Some("/tmp"));
    assert_eq!(dag.profile(first).resources.to_string(), "cpu=1 memory=64Mi");
    assert_eq!(dag.estimate(first), Some(Duration::from_secs(30)));

    let second = task(dag, "second");
    let profile = dag.profile(second);
    let retry = &profile.retry;
    assert_eq!((retry.max_attempts, retry.memory.0, retry.timeout.0), (3, 1500, 2000));
    assert_eq!((retry.crash_limit, retry.backoff.jitter), (9, false));
    assert_eq!(retry.memory_max, Some(2 << 30));
    assert_eq!(retry.backoff.initial, Duration::from_secs(2));
    assert!(retry.on.contains(CauseKind::Signal) && !retry.on.contains(CauseKind::ExitCode));
    assert_eq!(profile.timeouts.run, Some(Duration::from_secs(5400)));
    assert_eq!(profile.timeouts.queue, Some(Duration::from_secs(3600)));
    assert_eq!(profile.timeouts.start, Some(Duration::from_secs(10)));
    assert_eq!(profile.circuit.as_ref().map(|circuit| circuit.failures), Some(3));
    let keys: Vec<(&str, u32)> =
        profile.concurrency.iter().map(|key| (key.key.as_str(), key.limit)).collect();
    assert_eq!(keys, [("db", 1), ("net", 4)]);
    assert_eq!(profile.resources.to_string(), "cpu=0.5 memory=64Mi license=2");
    let zone = LabelRule::In { key: "zone".into(), values: vec!["eu".into()] };
    assert_eq!(profile.selector.required, [zone]);
    assert_eq!(profile.selector.preferred.len(), 2);
    assert_eq!((profile.on_disconnect, profile.priority), (OnDisconnect::Stop, 7));
    assert_eq!(dag.trigger(second), Trigger::AllDone);
    let Action::Exec { argv } = &dag.work(second).action else { panic!("exec") };
    assert_eq!((argv[1].as_str(), argv[2].as_str()), ("1.50", "mon"));
    assert!(argv[3].is_dynamic());

    let third = task(dag, "third");
    let edge = dag.dependencies(third).next().unwrap();
    assert_eq!((edge.when, edge.kind), (When::Completed, DependencyKind::Optional));
    assert_eq!(dag.dependency_timeout(third, second), Some(Duration::from_secs(10)));
    assert!(dag.profile(third).resources.is_none());
    let kinds: Vec<DependencyKind> =
        dag.dependencies(task(dag, "fourth")).map(|edge| edge.kind).collect();
    assert_eq!(kinds, [DependencyKind::Required, DependencyKind::Soft]);
}

#[test]
fn a_compiled_expression_needs_nothing_but_the_tasks() {
    let source = "
params: { min: 10 }
tasks:
  count: { run: x, matrix: { part: [a, b/c] } }
  next:
    needs: [count]
    matrix: { factor: [1, 100] }
    if: tasks.count.all(t, t.outputs.n * matrix.factor > params.min)
    exec: [echo, '${{ matrix.factor }}', \"${{ tasks['count.a'].outputs.n + params.min }}\"]
";
    let dag = good(source).dag;
    let next = ["next.1", "next.100"].map(|name| task(&dag, name));
    let outputs =
        kahn_model::Outputs(BTreeMap::from([("n".into(), kahn_model::Value::from_json("5"))]));
    let view = TaskView { outputs, ..TaskView::default() };
    let names = ["count.a", "count.b-c"];
    let scope = Scope {
        tasks: names.map(|name| (name.to_owned(), view.clone())).into(),
        ..Scope::default()
    };
    let conditions = next.map(|task| dag.condition(task).unwrap().0.clone());
    assert_eq!(references(&conditions[0]).unwrap().tasks.keys().collect::<Vec<_>>(), names);
    let values = conditions.map(|condition| evaluate_condition(&condition, &scope));
    assert_eq!(values, [Ok(false), Ok(true)]);
    let work = render_work(dag.work(next[1]), &scope).unwrap();
    let Action::Exec { argv } = work.action else { panic!("exec") };
    let argv: Vec<&str> = argv.iter().map(kahn_model::Text::as_str).collect();
    assert_eq!(argv, ["echo", "100", "15"]);
    assert!(
        work.env.iter().any(|(name, value)| &**name == "MATRIX_factor" && value.as_str() == "100")
    );
}

#[test]
fn matrix_instances_have_plain_and_different_names() {
    let source = "
tasks:
  t.a-b: { noop: true }
  t:
    noop: true
    matrix:
      v: [a/b, a b, 'a-b', 1.5, true, '']
  u:
    noop: true
    matrix:
      include: [{ os: linux, arch: arm }, { os: mac }]
  all: { needs: [t, u.mac], noop: true }
";
    let dag = good(source).dag;
    let names: Vec<&str> = dag.tasks().map(|task| dag.task_name(task)).collect();
    let expected = [
        "t.a-b",
        "t.a-b-2",
        "t.a-b-3",
        "t.a-b-4",
        "t.1.5",
        "t.true",
        "t.-",
        "u.arm.linux",
        "u.mac",
        "all",
    ];
    assert_eq!(names, expected);
    assert_eq!(dag.dependencies(task(&dag, "all")).count(), 7);
}

#[test]
fn conditions_that_are_known_are_decided_at_once() {
    let source = "
params: { on: true }
tasks:
  yes: { noop: true, if: params.on }
  no: { noop: true, if: '${{ !params.on }}' }
  off: { noop: true, if: false }
";
    let dag = good(source).dag;
    assert_eq!(dag.condition(task(&dag, "yes")), None);
    for name in ["no", "off"] {
        assert_eq!(&*dag.condition(task(&dag, name)).unwrap().0, "false");
    }
}

#[test]
fn params_are_read_as_their_types_say() {
    let source = "
params:
  text: { type: string }
  whole: { type: int }
  any: { type: json, default: { a: [1] } }
  flag: { type: bool, default: false }
tasks: { a: { run: x } }
";
    let text = |value: &str| ParamValue::from(value);
    let given = [("text", text("1")), ("whole", text("7")), ("flag", text("true"))];
    let given = given.map(|(name, value)| (name.to_owned(), value)).into();
    let compiled = compile(source, "dag.yaml", &given).unwrap();
    assert_eq!(
        serde_json::to_string(&compiled.params).unwrap(),
        r#"{"any":{"a":[1]},"flag":true,"text":"1","whole":7}"#
    );

    let wrong = [("text", text("${{ 1 }}")), ("whole", text("x")), ("txt", text("y"))];
    let wrong = wrong.map(|(name, value)| (name.to_owned(), value)).into();
    let found = compile(source, "dag.yaml", &wrong).unwrap_err();
    let messages: Vec<&str> = found.items.iter().map(|item| item.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "parameter `text` holds `${{`, which would be read as an expression",
            "parameter `whole` is `x`, not a whole number",
            "parameter `txt` is given, but not declared in `params`",
        ]
    );
}

#[test]
fn hostile_params_stay_literal() {
    let source =
        "params: { p: { type: string } }\ntasks: { a: { exec: [echo, '${{ params.p }}'] } }";
    for value in ["$(id)", "; rm -rf /", "a\nb", "--flag", "ünïcode", "`id`", "'\"\\"] {
        let given = BTreeMap::from([("p".to_owned(), ParamValue::from(value))]);
        let dag = compile(source, "dag.yaml", &given).unwrap().dag;
        let Action::Exec { argv } = &dag.work(TaskIx(0)).action else { panic!("exec") };
        assert_eq!(argv[1].as_str(), value);
    }
    let nul = BTreeMap::from([("p".to_owned(), ParamValue::from("a\0b"))]);
    let found = compile(source, "dag.yaml", &nul).unwrap_err();
    assert_eq!(found.items[0].message, "parameter `p` holds a NUL character");
}

#[test]
fn aliases_and_merge_keys_work_within_reason() {
    let source = "
defaults:
  retry: &retry { max_attempts: 4 }
tasks:
  a: &a { run: x, retry: { <<: *retry, crash_limit: 1 } }
  b: { <<: *a, needs: [a] }
";
    let dag = good(source).dag;
    let retry = &dag.profile(task(&dag, "b")).retry;
    assert_eq!((retry.max_attempts, retry.crash_limit), (4, 1));
}

#[test]
fn json_and_yaml_give_the_same_dag() {
    let json = r#"{"name":"d","tasks":{"a":{"run":"x","retry":{"max_attempts":2}},
        "b":{"sleep":1.5,"needs":"a"}}}"#;
    let yaml =
        "name: d\ntasks:\n  a: {run: x, retry: {max_attempts: 2}}\n  b: {sleep: 1.5, needs: a}";
    assert_eq!(good(json).dag, good(yaml).dag);
}
