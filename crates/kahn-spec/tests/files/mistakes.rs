//! Diagnostics of invalid and of suspicious DAG files.

use crate::{bad, good};

/// Each invalid file with its rendered diagnostics.
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
error[cycle]: dependency cycle: a → b → c → a
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
  = help: removing any one of these breaks the cycle: `a` needs `b`; `b` needs `c`; `c` needs `a`
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
error[expression]: task `b` uses task `a`, but does not depend on it
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
  = help: use for example `a--31m`
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
error[invalid_value]: `5 parsecs` is not a duration; write for example `1h30m`, `500ms` or `10`
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
        ("tasks: {a: {sleep: 400d}}", "`400d` is longer than 366 days, the maximum"),
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
fn nested_cycles_are_broken_by_removing_few_edges() {
    let source = "
tasks:
  a: {run: x, needs: [b, c]}
  b: {run: x, needs: [a]}
  c: {run: x, needs: [a, b]}
  free: {run: x, needs: [a]}
";
    let found = bad(source);
    assert_eq!(found.items.len(), 1);
    assert_eq!(found.items[0].message, "dependency cycle: a → b → a");
    let help = found.items[0].help.as_deref().unwrap();
    assert!(help.starts_with("3 tasks form several cycles"), "{help}");
    assert_eq!(help.lines().next().unwrap().matches("needs").count(), 2, "{help}");
}

#[test]
fn two_separate_circles_are_both_reported() {
    let source =
        "tasks: {a: {run: x, needs: [b]}, b: {run: x, needs: [a]}, c: {run: x, needs: [c]}}";
    let messages: Vec<String> = bad(source).items.into_iter().map(|item| item.message).collect();
    assert_eq!(messages, ["dependency cycle: a → b → a", "task `c` needs itself"]);
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
fn a_trigger_without_needs_is_a_warning() {
    let warnings = good("tasks: {a: {run: x, trigger: any_failed}}").warnings.unwrap();
    assert_eq!(warnings.items[0].message, "`trigger` of task `a` has no effect without `needs`");
    assert_eq!(warnings.items[0].labels[0].line, 1);
}
