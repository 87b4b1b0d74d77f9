//! Secrets in a DAG file are names in dedicated places, and never part of a string.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::collections::BTreeMap;

use kahn_model::{Dag, LabelRule, SecretTarget, SecretUse, Work};
use kahn_spec::compile;

fn dag(source: &str) -> Result<Dag, String> {
    let compiled = compile(source, "dag.yaml", &BTreeMap::new());
    compiled.map(|compiled| compiled.dag).map_err(|found| found.render())
}

fn work(dag: &Dag, task: &str) -> Work {
    (**dag.work(dag.task_by_name(task).unwrap())).clone()
}

fn required(dag: &Dag, task: &str) -> Vec<LabelRule> {
    dag.profile(dag.task_by_name(task).unwrap()).selector.required.clone()
}

fn secret(target: SecretTarget, prefix: &str, name: &str) -> SecretUse {
    SecretUse { target, prefix: prefix.into(), secret: name.parse().unwrap() }
}

fn exists(label: &str) -> LabelRule {
    LabelRule::Exists { key: label.into() }
}

#[test]
fn secrets_are_taken_from_file_defaults_and_task_and_the_last_word_counts() {
    let source = r#"
env: { A: { secret: one }, PLAIN: x, OVER: { secret: one } }
defaults: { env: { B: { secret: two, as: file } } }
tasks:
  all: { run: "true", env: { C: { secret: one, prefix: "k=" }, OVER: text, PLAIN: { secret: two } } }
  none: { sleep: 1s }
"#;
    let dag = dag(source).unwrap();
    let all = work(&dag, "all");
    let variable = |name: &str| SecretTarget::Variable(name.into());
    let expected = [
        secret(variable("A"), "", "one"),
        secret(variable("PLAIN"), "", "two"),
        secret(SecretTarget::File("B".into()), "", "two"),
        secret(variable("C"), "k=", "one"),
    ];
    assert_eq!(all.secrets, expected);
    let env: Vec<_> = all.env.iter().map(|(name, text)| (&**name, text.as_str())).collect();
    assert_eq!(env, [("OVER", "text")]);
    assert_eq!(required(&dag, "all"), [exists("secret/one"), exists("secret/two")]);
    assert!(work(&dag, "none").secrets.is_empty() && required(&dag, "none").is_empty());
}

#[test]
fn a_request_gets_secrets_in_headers_and_none_of_the_environment() {
    let source = r#"
env: { A: { secret: unused } }
tasks:
  t:
    http:
      url: "https://h/"
      headers: { Accept: text/plain, Authorization: { secret: token, prefix: "Bearer " } }
"#;
    let dag = dag(source).unwrap();
    let header = SecretTarget::Header("Authorization".into());
    assert_eq!(work(&dag, "t").secrets, [secret(header, "Bearer ", "token")]);
    assert_eq!(required(&dag, "t"), [exists("secret/token")]);
}

#[test]
fn each_action_with_an_environment_takes_secrets() {
    for action in
        ["run: \"true\"", "exec: [a]", "function: f", "python: \"m:f\"", "container: { image: i }"]
    {
        let dag = dag(&format!("tasks: {{ t: {{ {action}, env: {{ A: {{ secret: s }} }} }} }}"));
        assert_eq!(work(&dag.unwrap(), "t").secrets.len(), 1, "{action}");
    }
}

#[test]
fn a_text_that_looks_like_a_secret_stays_a_text() {
    let source = r#"
params: { p: "{ secret: api-token }" }
tasks: { t: { run: "true", env: { A: "{ secret: api-token }", B: "${{ params.p }}" } } }
"#;
    let work = work(&dag(source).unwrap(), "t");
    assert!(work.secrets.is_empty());
    assert!(
        work.env.iter().filter(|(_, text)| text.as_str() == "{ secret: api-token }").count() >= 2
    );
}

#[test]
fn mistakes_with_secrets_are_explained() {
    let many: String = (0..33).map(|n| format!("V{n}: {{ secret: s{n} }}, ")).collect();
    let many = format!("run: a, env: {{ {many} }}");
    let long = format!("run: a, env: {{ A: {{ secret: s, prefix: {} }} }}", "x".repeat(257));
    let http = |inner: &str| format!("http: {{ url: \"https://h/\", headers: {{ A: {inner} }} }}");
    for (task, expected) in [
        ("run: a, env: { A: { secret: s, value: x } }", "unknown field `value`"),
        ("run: a, env: { A: { secrets: s } }", "did you mean `secret`?"),
        ("run: a, env: { A: {} }", "the value of `A` names no secret"),
        ("run: a, env: { A: { secret: \"../x\" } }", "allowed are letters"),
        ("run: a, env: { A: { secret: \"${{ params.x }}\" } }", "allowed are letters"),
        ("run: a, env: { A: { secret: s, as: path } }", "unknown value `path`"),
        ("run: a, env: { A: { secret: s, as: file, prefix: x } }", "exclude each other"),
        ("run: a, env: { A: { secret: s, prefix: \"${{ 1 }}\" } }", "only plain text"),
        ("run: a, env: { A: [x] }", "a text, a number, a boolean, or `{ secret: name }`"),
        ("run: a, env: { KAHN_X: { secret: s } }", "set by Kahn itself"),
        (&http("{ secret: s, as: file }"), "`as` has no meaning"),
        ("http: { url: \"https://h/\" }, env: { A: { secret: s } }", "give it to a header"),
        (&long, "too many bytes in the `prefix`"),
        (&many, "too many secrets of task `t`: 33"),
        ("run: a, env: { A: \"${{ secrets.TOKEN }}\" }", "TOKEN: { secret: name }"),
        ("run: a, env: { A: \"${{ secrets.api-token }}\" }", "TOKEN: { secret: name }"),
        ("run: \"x ${{ secrets.TOKEN }}\"", "{ NAME: { secret: name } }"),
        (&http("\"Bearer ${{ secrets.TOKEN }}\""), "prefix: \"Bearer \""),
    ] {
        let found = dag(&format!("tasks: {{ t: {{ {task} }} }}")).unwrap_err();
        assert!(found.contains(expected), "{task}: {found}");
    }
}
