//! Large DAGs compile in bounded time, and long chains and cycles do not overflow the stack.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kahn_spec::{Code, compile};

/// Returns a DAG file with a chain of `n` tasks, optionally closed to a cycle.
fn chain(n: usize, is_closed: bool) -> String {
    let mut out = "{\"name\":\"chain\",\"tasks\":{".to_owned();
    for task in 0..n {
        let comma = if task > 0 { "," } else { "" };
        let need = match task {
            0 if is_closed => n - 1,
            0 => usize::MAX,
            _ => task - 1,
        };
        let _ = match need {
            usize::MAX => write!(out, "{comma}\"t{task}\":{{\"exec\":[\"/bin/true\"]}}"),
            _ => write!(
                out,
                "{comma}\"t{task}\":{{\"exec\":[\"/bin/true\"],\"needs\":[\"t{need}\"]}}"
            ),
        };
    }
    out.push_str("}}");
    out
}

/// One million in release builds; debug builds are too slow.
const N: usize = if cfg!(debug_assertions) { 30_000 } else { 1_000_000 };

#[test]
fn a_long_chain_compiles() {
    let source = chain(N, false);
    let compiled = compile(&source, "chain.json", &BTreeMap::new()).unwrap();
    assert_eq!(compiled.dag.n_tasks(), N);
    assert_eq!(compiled.dag.n_dependencies(), N - 1);
}

#[test]
fn a_long_circle_is_shown_by_its_ends() {
    let found = compile(chain(N, true), "circle.json", &BTreeMap::new()).unwrap_err();
    assert_eq!(found.items.len(), 1);
    assert_eq!(found.items[0].code, Code::Cycle);
    let message = &found.items[0].message;
    let start = format!("dependency cycle: t0 → t{} → t{}", N - 1, N - 2);
    assert!(message.starts_with(&start), "{message}");
    assert!(message.contains("more …") && message.ends_with("→ t1 → t0"), "{message}");
}

#[test]
fn a_mistake_in_a_large_file_is_still_named() {
    let source = chain(N, false).replace("\"needs\":[\"t41\"]", "\"needs\":[\"t41x\"]");
    let found = compile(source, "chain.json", &BTreeMap::new()).unwrap_err();
    assert_eq!(found.items[0].message, "task `t42` needs `t41x`, which does not exist");
    assert_eq!(found.items[0].help.as_deref(), Some("did you mean `t41`?"));
}

#[test]
fn a_large_matrix_shares_what_it_can() {
    let values: Vec<String> = (0..100).map(|value| value.to_string()).collect();
    let list = values.join(", ");
    let source = format!(
        "tasks:\n  m:\n    matrix: {{a: [{list}], b: [{list}]}}\n    run: echo $MATRIX_a\n  \
         end: {{needs: [m], noop: true}}\n"
    );
    let dag = compile(source, "m.yaml", &BTreeMap::new()).unwrap().dag;
    assert_eq!(dag.n_tasks(), 10_001);
    assert_eq!(dag.n_dependencies(), 10_000);
    assert_eq!(dag.profiles().len(), 2);
}
