//! Checks every limit of a DAG file, and the limits of expanded values.

use std::collections::BTreeMap;

use kahn_model::limits;
use kahn_spec::{Code, Diagnostics, compile};

#[expect(clippy::unwrap_used, reason = "a test helper fails by panicking, like a test")]
fn refused(source: &str) -> Diagnostics {
    compile(source, "dag.yaml", &BTreeMap::new())
        .map(|compiled| compiled.dag.n_tasks())
        .unwrap_err()
}

/// Checks that the first diagnostic has this code and contains `text`.
#[track_caller]
fn check(source: &str, code: Code, text: &str) {
    let found = refused(source);
    let first = &found.items[0];
    assert_eq!(first.code, code, "{}", found.render());
    assert!(first.message.contains(text), "{}", found.render());
}

fn entries(n: usize, entry: impl Fn(usize) -> String) -> String {
    (0..n).map(entry).collect::<Vec<_>>().join(", ")
}

fn numbers(n: usize) -> String {
    entries(n, |at| at.to_string())
}

#[test]
fn names_are_short_and_plain() {
    let long = "x".repeat(limits::NAME_BYTES_MAX + 1);
    check(&format!("tasks: {{{long}: {{noop: true}}}}"), Code::InvalidName, "at most 128 bytes");
    check(&format!("name: {long}\ntasks: {{a: {{noop: true}}}}"), Code::InvalidName, "at most 128");
    for bad in ["'a b'", "'../a'", "-a", ".a", "'a\\b'", "\"a\\0\"", "ä", "''"] {
        let found = refused(&format!("tasks: {{{bad}: {{noop: true}}}}"));
        assert_eq!(found.items[0].code, Code::InvalidName, "{bad}: {}", found.render());
    }
}

#[test]
fn tasks_and_dependencies_are_counted_before_they_are_made() {
    let list = numbers(1_001);
    let many = format!("tasks: {{a: {{noop: true, matrix: {{v: [{list}], w: [{list}]}}}}}}");
    check(&many, Code::Limit, "1002001 combinations");
    let half = format!("matrix: {{v: [{}], w: [{}]}}", numbers(1_001), numbers(500));
    let twice = format!("tasks: {{a: {{noop: true, {half}}}, b: {{noop: true, {half}}}}}");
    check(&twice, Code::Limit, "too many tasks: 1001000; at most 1000000");
    let edges = format!(
        "tasks: {{a: {{noop: true, matrix: {{v: [{0}]}}}}, b: {{needs: [a], noop: true, matrix: {{v: [{0}]}}}}}}",
        numbers(2_500)
    );
    check(&edges, Code::Limit, "too many dependencies: 6250000; at most 5000000");
}

/// Checks that a file is refused with a message that names the limit, and a way out.
#[track_caller]
fn check_limit(source: impl AsRef<[u8]>, text: &str) {
    let found =
        compile(source, "dag.yaml", &BTreeMap::new()).map(|_| ()).expect_err("it is refused");
    let first = &found.items[0];
    assert_eq!((found.items.len(), first.code), (1, Code::Limit), "{}", found.render());
    assert!(first.message.contains(text), "{}", found.render());
    assert!(first.help.is_some(), "{}", found.render());
    assert!(!found.render().contains("budget"), "{}", found.render());
}

#[test]
fn a_file_that_is_too_large_says_how_large_it_may_be() {
    let n_bytes = limits::DOCUMENT_BYTES_MAX + 1;
    check_limit(vec![0; n_bytes], "the file has 536870913 bytes; at most 536870912 are read");
}

#[test]
fn the_limits_of_the_yaml_parser_are_told_in_words_of_the_file() {
    let nested = format!("tasks: {{a: {}", "[".repeat(100));
    check_limit(&nested, "nested more than 64 levels deep");
    let blocks: String = (0..100).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    check_limit(&blocks, "nested more than 64 levels deep");
    let anchors: String = (0..10_001).map(|n| format!(" k{n}: &a{n} x\n")).collect();
    check_limit(format!("env:\n{anchors}"), "more than 10000 anchors");
    let wide = entries(100, |_| "x".into());
    let aliases = entries(400, |_| "*a".into());
    let expanded = format!("params: {{a: &a [{wide}], b: [{aliases}]}}\n");
    check_limit(&expanded, "stand for more than 20");
    let long = "x".repeat(1 << 20);
    let aliases = entries(100, |_| "*a".into());
    let texts = format!("params: {{a: &a {long}, b: [{aliases}]}}\n");
    check_limit(&texts, "stand for more than 67108864 bytes of text");
    let merges = entries(4_000, |_| "{<<: *a}".into());
    check_limit(format!("params: {{a: &a {{}}, b: [{merges}]}}"), "merge keys");
}

#[test]
fn a_task_that_needs_itself_is_named() {
    check("tasks: {a: {noop: true, needs: [a]}}", Code::Cycle, "task `a` needs itself");
}

#[test]
fn the_environment_is_small() {
    let many = entries(limits::ENV_MAX + 1, |at| format!("V{at}: x"));
    check(&format!("tasks: {{a: {{run: x, env: {{{many}}}}}}}"), Code::Limit, "513; at most 512");
    let long = "x".repeat(limits::ENV_VALUE_BYTES_MAX + 1);
    let message = "too many bytes in the environment variable `V`: 32769";
    let found = refused(&format!("tasks: {{a: {{run: x, env: {{V: {long}}}}}}}"));
    assert!(found.items[0].message.starts_with(message), "{}", found.render());
    assert_eq!(found.items.len(), 1, "said once");
    let params = entries(limits::PARAMS_MAX + 1, |at| format!("p{at}: x"));
    check(&format!("params: {{{params}}}\ntasks: {{a: {{run: x}}}}"), Code::Limit, "at most 512");
}

#[test]
fn an_action_is_small() {
    let long = "x".repeat(limits::ACTION_BYTES_MAX + 1);
    check(&format!("tasks: {{a: {{run: {long}}}}}"), Code::Limit, "131073; at most 131072");
    check(&format!("tasks: {{a: {{exec: [a, {long}]}}}}"), Code::Limit, "131074; at most 131072");
}

#[test]
fn attempts_spans_keys_and_rules_have_a_most() {
    let task = |field: &str| format!("tasks: {{a: {{run: x, {field}}}}}");
    for n in ["0", "1001"] {
        let text = format!("`max_attempts` is {n}; allowed are 1 to 1000");
        check(&task(&format!("retry: {{max_attempts: {n}}}")), Code::InvalidValue, &text);
    }
    for field in [
        "timeout: 367d",
        "timeouts: {queue: 367d}",
        "retry: {backoff: {max: 367d}}",
        "circuit: {key: k, cool_down: 367d}",
        "estimate: 367d",
    ] {
        check(&task(field), Code::InvalidValue, "longer than 366 days");
    }
    check("policy: {timeout: 9999999999d}\ntasks: {a: {run: x}}", Code::InvalidValue, "366 days");
    check(&task("retry: {memory_multiplier: 101}"), Code::InvalidValue, "between 1 and 100");
    check(&task("retry: {memory_max: 5Q}"), Code::InvalidValue, "not an amount of memory");
    let keys = entries(17, |at| format!("k{at}"));
    check(&task(&format!("concurrency: [{keys}]")), Code::Limit, "17; at most 16");
    let rules = entries(65, |at| format!("l{at}: x"));
    check(&task(&format!("labels: {{require: {{{rules}}}}}")), Code::Limit, "65; at most 64");
    let long = format!("tasks.b.status == '{}'", "x".repeat(limits::EXPRESSION_BYTES_MAX));
    let source = format!("tasks: {{b: {{noop: true}}, a: {{needs: b, run: x, if: \"{long}\"}}}}");
    check(&source, Code::Expression, "at most 4096");
}

#[test]
fn values_that_are_known_do_not_blow_a_text_up() {
    let param = format!("params: {{p: {}}}\n", "x".repeat(30_000));
    let many = "${{params.p}}".repeat(100);
    let argument = format!("{param}tasks: {{a: {{exec: [a, '{many}']}}}}");
    check(&argument, Code::Limit, "in a text with its expressions rendered: 150000");
    let arguments =
        format!("{param}tasks: {{a: {{exec: [a, {}]}}}}", entries(9, |_| "'${{params.p}}'".into()));
    check(&arguments, Code::Limit, "in the action of task `a`: 150001");
    let value = format!(
        "{param}tasks: {{a: {{run: x, env: {{V: '${{{{params.p}}}}${{{{params.p}}}}'}}}}}}"
    );
    check(&value, Code::Limit, "the environment variable `V`: 60000");
}

/// Returns a DAG with `n` matrix instances whose conditions use a long parameter and depend on the
/// state of another task.
fn bound(n: usize) -> String {
    let (long, list) = ("x".repeat(30_000), numbers(n));
    format!(
        "params: {{p: {long}}}\ntasks:\n  a: {{noop: true}}\n  b:\n    matrix: {{v: [{list}]}}\n    \
         needs: [{{task: a, when: completed}}]\n    if: tasks.a.exit_code == 0 && params.p != ''\n    \
         noop: true\n"
    )
}

#[test]
fn values_bound_to_expressions_have_a_most_for_the_whole_file() {
    assert_eq!(compile(bound(200), "dag.yaml", &BTreeMap::new()).unwrap().dag.n_tasks(), 201);
    check(&bound(1_200), Code::Limit, "in all expressions with the values bound to them");
}
