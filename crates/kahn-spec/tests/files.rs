//! Good and bad DAG files: what they compile to, and what is said about the bad ones.

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_model::{
    Action, CauseKind, Dag, DependencyKind, FailurePolicy, LabelRule, OnDisconnect, Shell, TaskIx,
    Trigger, When,
};
use kahn_spec::{
    Compiled, Diagnostics, ParamValue, Scope, TaskView, compile, evaluate_condition, references,
    render_work,
};
use proptest::prelude::*;

fn none() -> BTreeMap<String, ParamValue> {
    BTreeMap::new()
}

fn good(source: &str) -> Compiled {
    compile(source, "dag.yaml", &none()).unwrap_or_else(|found| panic!("{}", found.render()))
}

fn bad(source: &str) -> Diagnostics {
    match compile(source, "dag.yaml", &none()) {
        Ok(_) => panic!("compiled: {source}"),
        Err(found) => found,
    }
}

fn task(dag: &Dag, name: &str) -> TaskIx {
    dag.task_by_name(name).unwrap_or_else(|| panic!("no task {name}"))
}

#[test]
fn the_examples_compile_without_warnings() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    for name in ["hello.yaml", "matrix.yaml", "failure.yaml", "diamond.json"] {
        let source = std::fs::read_to_string(format!("{examples}/{name}")).unwrap();
        let compiled = compile(&source, name, &none()).unwrap_or_else(|e| panic!("{}", e.render()));
        assert_eq!(compiled.warnings, None, "{name}");
    }
}

const FULL: &str = r#"
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

/// Each wrong file with what is rendered about it.
#[test]
fn mistakes_are_shown_with_place_excerpt_and_advice() {
    for (source, expected) in MISTAKES {
        let found = bad(source.trim_start()).render();
        assert_eq!(found.trim_end(), expected.trim(), "\n{found}");
    }
}

const MISTAKES: &[(&str, &str)] = &[
    (
        "
tasks:
  a:
    need: [b]
    run: echo
    retry: 3
  b:
    run: x
",
        "
error[unknown_field]: unknown field `need`
 --> dag.yaml:3:5
  |
3 |     need: [b]
  |     ^^^^
  |
  = help: did you mean `needs`?

error[invalid_value]: expected a map of fields, found `3`
 --> dag.yaml:5:12
  |
5 |     retry: 3
  |            ^
",
    ),
    (
        "
tasks:
  extract: {run: x}
  load: {run: x, needs: [extrct]}
",
        "
error[unknown_task]: task `load` needs `extrct`, which does not exist
 --> dag.yaml:3:26
  |
3 |   load: {run: x, needs: [extrct]}
  |                          ^^^^^^
  |
  = help: did you mean `extract`?
",
    ),
    (
        "
tasks:
  a: {run: x, needs: [b]}
  b: {run: x, needs: [c]}
  c:
    run: x
    needs:
      - a
",
        "
error[cycle]: tasks need each other in a circle: a → b → c → a
 --> dag.yaml:2:23
  |
2 |   a: {run: x, needs: [b]}
  |                       ^ `a` needs `b`
3 |   b: {run: x, needs: [c]}
  |                       - `b` needs `c`
...
7 |       - a
  |         - `c` needs `a`
  |
  = help: removing any one of these breaks the circle: `a` needs `b`; `b` needs `c`; `c` needs `a`
          if `a` does two things, one that `c` needs and one that needs `b`, split it into two tasks
",
    ),
    (
        "
tasks:
  a:
    run: echo ${{ params.x }}
",
        "
error[injection]: `run` of task `a` holds an expression
 --> dag.yaml:3:10
  |
3 |     run: echo ${{ params.x }}
  |          ^^^^^^^^^^^^^^^^^^^^
  |
  = help: a value is never spliced into shell text: set it under `env:` and use it as `\"$NAME\"`; parameters are there as `\"$PARAM_name\"`, matrix values as `\"$MATRIX_name\"`
",
    ),
    (
        "
params: {day: x}
tasks:
  a: {exec: [echo, '${{ params.dya }}']}
",
        "
error[parameter]: parameter `dya` is not declared in `params`
 --> dag.yaml:3:25
  |
3 |   a: {exec: [echo, '${{ params.dya }}']}
  |                         ^^^^^^^^^^
  |
  = help: did you mean `day`?
",
    ),
    (
        "
tasks:
  a: {run: x, outputs: [rows]}
  b: {run: x, if: tasks.a.outputs.row > 1}
",
        "
error[unknown_task]: task `a` declares no output `row`
 --> dag.yaml:3:19
  |
3 |   b: {run: x, if: tasks.a.outputs.row > 1}
  |                   ^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: did you mean `rows`?
",
    ),
    (
        "
tasks:
  a: {run: x}
  b: {run: x, if: tasks.a.exit_code == 1}
",
        "
error[expression]: task `b` looks at task `a`, but does not depend on it
 --> dag.yaml:3:19
  |
3 |   b: {run: x, if: tasks.a.exit_code == 1}
  |                   ^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: add `a` to the `needs` of `b`
",
    ),
    (
        "
tasks:
  web: {service: {exec: [nginx]}}
  b: {noop: true, needs: [{task: web, when: ready}]}
",
        "
error[unsupported]: `service` of task `web` is not supported yet
 --> dag.yaml:2:18
  |
2 |   web: {service: {exec: [nginx]}}
  |                  ^
  |
  = help: this version does `run`, `exec`, `function`, `python`, `container`, `http`, `sleep` and `noop`

error[unsupported]: `when: ready` is not supported yet
 --> dag.yaml:3:45
  |
3 |   b: {noop: true, needs: [{task: web, when: ready}]}
  |                                             ^^^^^
  |
  = help: services do not exist yet; use `started` or `succeeded`
",
    ),
    (
        "
tasks:
  a: {run: x, exec: [y]}
  b: {description: none}
",
        "
error[conflict]: task `a` has 2 actions
 --> dag.yaml:2:3
  |
2 |   a: {run: x, exec: [y]}
  |   ^        - `run`  - `exec`
  |
  = help: exactly one is allowed; split the task: `run`, `exec`

error[missing_field]: task `b` does nothing
 --> dag.yaml:3:3
  |
3 |   b: {description: none}
  |   ^
  |
  = help: give it one of `run`, `exec`, `function`, `python`, `container`, `http`, `sleep` and `noop`
",
    ),
    (
        "
tasks:
  a: {run: x}
  a: {run: y}
",
        "
error[duplicate_key]: duplicate mapping key: a
 --> dag.yaml:3:3
  |
3 |   a: {run: y}
  |   ^
",
    ),
    (
        "{\"tasks\": {\"a\": {\"run\": \"x\",}}",
        "
error[syntax]: trailing comma
 --> dag.yaml:1:29
  |
1 | {\"tasks\": {\"a\": {\"run\": \"x\",}}
  |                             ^
",
    ),
    (
        "
tasks:
  \"a\\e[31m\": {run: x}
",
        "
error[invalid_name]: name `a?[31m` holds '\\u{1b}'; allowed are letters, digits, `.`, `_` and `-`
 --> dag.yaml:2:3
  |
2 |   \"a\\e[31m\": {run: x}
  |   ^^^^^^^^^
  |
  = help: `a--31m` would do
",
    ),
    (
        "
tasks:
  a:
    run: x
    resources: {memory: 5Q, cpu: 0.5}
    timeout: 5 parsecs
    retry: {max_attempts: 0, on: [timeout]}
    trigger: all_suceeded
",
        "
error[invalid_value]: `5 parsecs` is not a length of time; write for example `1h30m`, `500ms` or `10`
 --> dag.yaml:5:14
  |
5 |     timeout: 5 parsecs
  |              ^^^^^^^^^

error[invalid_value]: unknown value `all_suceeded`
 --> dag.yaml:7:14
  |
7 |     trigger: all_suceeded
  |              ^^^^^^^^^^^^
  |
  = help: did you mean `all_succeeded`?
",
    ),
    (
        "
tasks:
  a:
    run: x
    resources: {memory: 5Q, cpu: 0.5}
    timeout: 5
    timeouts: {run: 6}
    retry: {max_attempts: 0, on: [timeout]}
",
        "
error[invalid_value]: `5Q` is not an amount of memory; write for example `512Mi`
 --> dag.yaml:4:25
  |
4 |     resources: {memory: 5Q, cpu: 0.5}
  |                         ^^

error[conflict]: `timeout` and `timeouts.run` say the same thing twice
 --> dag.yaml:6:21
  |
5 |     timeout: 5
  |              - and here
6 |     timeouts: {run: 6}
  |                     ^
  |
  = help: leave out one of them

error[invalid_value]: `max_attempts` is 0; allowed are 1 to 1000
 --> dag.yaml:7:27
  |
7 |     retry: {max_attempts: 0, on: [timeout]}
  |                           ^

error[invalid_value]: unknown cause `timeout`
 --> dag.yaml:7:35
  |
7 |     retry: {max_attempts: 0, on: [timeout]}
  |                                   ^^^^^^^
  |
  = help: causes are exit_code, signal, out_of_memory, queue_timeout, start_timeout, run_timeout, worker_lost, preempted, image, infeasible, dependency, cancelled, policy, condition, expression, deadline, circuit_open, exception, panic, http_status, unreachable, and `exception:NAME` for one type of exception
",
    ),
];

#[test]
fn other_mistakes_are_named() {
    for (source, message) in [
        ("", "expected a map of fields, found nothing"),
        ("name: x", "a DAG file has at least one task under `tasks`"),
        ("tasks: {}", "a DAG file has at least one task under `tasks`"),
        ("tasks: {a: {run: ''}}", "`run` of task `a` is empty"),
        ("tasks: {a: {exec: []}}", "`exec` of task `a` names no program"),
        ("tasks: {a: {noop: false}}", "task `a` does nothing"),
        ("tasks: {a: {run: x, needs: a}}", "task `a` needs itself"),
        (
            "tasks: {a: {run: x}, b: {run: x, needs: [a, a]}}",
            "task `b` names its dependency `a` twice",
        ),
        ("tasks: {a: {run: x, matrix: {v: []}}}", "`v` of the matrix of task `a` is empty"),
        (
            "tasks: {a: {run: x, env: {A-B: x}}}",
            "`A-B` cannot be the name of an environment variable",
        ),
        ("tasks: {a: {run: x, env: {KAHN_X: x}}}", "`KAHN_X` is set by Kahn itself"),
        (
            "tasks: {a: {exec: ['${{ matrix.x }}']}}",
            "the expression uses `matrix.x`, but task `a` has no matrix",
        ),
        (
            "tasks: {a: {exec: ['${{ 1 + }}']}}",
            "the expression cannot be read: mismatched input '<EOF>' expecting expression",
        ),
        (
            "tasks: {a: {exec: ['${{ 1']}}",
            "the expression cannot be read: `${{` is not closed with `}}`",
        ),
        (
            "tasks: {a: {run: x, if: \"//kahn{}\\n true\"}}",
            "an expression may not start with `//kahn`",
        ),
        ("params: {x-y: 1}\ntasks: {a: {run: x}}", "`x-y` cannot be the name of a parameter"),
        (
            "params: {x: {required: true}}\ntasks: {a: {run: x}}",
            "parameter `x` is required and not given",
        ),
        (
            "params: {x: {type: int, default: a}}\ntasks: {a: {run: x}}",
            "the default of parameter `x` is \"a\", not a whole number",
        ),
        (
            "policy: {max_parallel: 0}\ntasks: {a: {run: x}}",
            "`max_parallel: 0` would let nothing run",
        ),
        (
            "policy: {on_failure: {max_failures: 0}}\ntasks: {a: {run: x}}",
            "`max_failures` is at least 1",
        ),
        ("tasks: {a: {run: x, sleep: 1}}", "task `a` has 2 actions"),
        ("tasks: {a: {sleep: 400d}}", "`400d` is longer than 366 days, the longest length of time"),
        (
            "tasks: {a: {run: x, matrix: {v: [1, 2]}}, b: {run: x, needs: [a], if: a.b}}",
            "unknown name `a`",
        ),
        (
            "tasks: {a: {run: x, matrix: {v: [1]}}, b: {run: x, needs: [a], if: tasks.a.exit_code == 1}}",
            "`tasks.a` is a list, since the task has a matrix",
        ),
        (
            "tasks: {a: {run: x, labels: {require: [{key: k, op: in}]}}}",
            "the rule on label `k` has no `values`",
        ),
        ("tasks: {a: {run: x, concurrency: [k, k]}}", "key `k` is named twice"),
        ("tasks: {a: {run: x}}\n---\ntasks: {a: {run: x}}", "multiple YAML documents detected"),
        (
            "{\"tasks\": {\"a\": {\"run\": \"x\"}, \"a\": {\"run\": \"y\"}}}",
            "duplicate mapping key: a",
        ),
        ("{\"tasks\": {\"a\": [\"x\"]}}", "expected a map of fields, found a list"),
    ] {
        let found = bad(source);
        assert_eq!(found.items[0].message, message, "{source}\n{found}");
    }
}

#[test]
fn a_knot_of_circles_is_cut_by_a_few_edges() {
    let source = "
tasks:
  a: {run: x, needs: [b, c]}
  b: {run: x, needs: [a]}
  c: {run: x, needs: [a, b]}
  free: {run: x, needs: [a]}
";
    let found = bad(source);
    assert_eq!(found.items.len(), 1);
    assert_eq!(found.items[0].message, "tasks need each other in a circle: a → b → a");
    let help = found.items[0].help.as_deref().unwrap();
    assert!(help.starts_with("3 tasks are tied up in several circles"), "{help}");
    assert_eq!(help.lines().next().unwrap().matches("needs").count(), 2, "{help}");
}

#[test]
fn two_separate_circles_are_both_reported() {
    let source =
        "tasks: {a: {run: x, needs: [b]}, b: {run: x, needs: [a]}, c: {run: x, needs: [c]}}";
    let messages: Vec<String> = bad(source).items.into_iter().map(|item| item.message).collect();
    assert_eq!(messages, ["tasks need each other in a circle: a → b → a", "task `c` needs itself"]);
}

#[test]
fn many_mistakes_are_capped_and_counted() {
    let needs: Vec<String> = (0..80).map(|n| format!("missing{n}")).collect();
    let found = bad(&format!("tasks: {{a: {{run: x, needs: [{}]}}}}", needs.join(", ")));
    assert_eq!((found.items.len(), found.omitted), (50, 30));
    assert!(found.render().ends_with("and 30 more\n"));
}

#[test]
fn diagnostics_serialise_with_line_and_column() {
    let found = bad("tasks:\n  ä: {run: x, needs: [b]}\n");
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["origin"], "dag.yaml");
    let label = &json["items"][0]["labels"][0];
    assert_eq!((&label["line"], &label["column"]), (&2.into(), &3.into()), "{json:#}");
    assert_eq!(json["items"][0]["code"], "invalid_name");
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

#[test]
fn a_trigger_without_needs_is_a_warning() {
    let warnings = good("tasks: {a: {run: x, trigger: any_failed}}").warnings.unwrap();
    assert_eq!(warnings.items[0].message, "`trigger` of task `a` has no effect without `needs`");
    assert_eq!(warnings.items[0].labels[0].line, 1);
}

proptest! {
    #[test]
    fn no_bytes_break_the_compiler(bytes: Vec<u8>) {
        kahn_spec::fuzz::document(&bytes);
    }

    #[test]
    fn no_mix_of_words_breaks_the_compiler(
        words in prop::collection::vec(prop::sample::select(vec![
            "tasks:", "\n  a:", "\n    run: x", "\n    needs: [a]", "params:", "\n  b: {noop: true}",
            "{", "}", "[", "]", ",", ": ", "\n- ", "&x", "*x", "<<: ", "|\n", ">\n", "\"", "'", "!!map ",
            "matrix: {v: [1, 2]}", "if: ", "${{ ", " }}", "tasks.a", "~", "0x10", "1e999", "\t", "#", "%",
            "---\n", "...\n", "\u{feff}", "\r\n", "retry: {max_attempts: ", "99999999999999999999", "-1",
        ]), 0..40),
    ) {
        kahn_spec::fuzz::document(words.concat().as_bytes());
    }

    #[test]
    fn a_full_file_with_changed_bytes_breaks_nothing(
        changes in prop::collection::vec((0..FULL.len(), any::<u8>()), 1..8),
    ) {
        let mut bytes = FULL.as_bytes().to_vec();
        changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
        kahn_spec::fuzz::document(&bytes);
    }
}
