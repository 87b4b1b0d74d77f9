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

/// Returns the same chain as YAML.
fn yaml_chain(n: usize) -> String {
    let mut out = "tasks:\n".to_owned();
    for task in 0..n {
        let _ = write!(out, "  t{task}:\n    exec: [/bin/true]\n");
        if task > 0 {
            let _ = writeln!(out, "    needs: [t{}]", task - 1);
        }
    }
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
fn yaml_and_json_take_the_same_sizes() {
    // More values than any file of a person has.
    let n = N.max(60_000);
    let compiled = compile(yaml_chain(n), "chain.yaml", &BTreeMap::new()).unwrap();
    let same = compile(chain(n, false), "chain.json", &BTreeMap::new()).unwrap();
    assert!(compiled.dag == same.dag, "the formats differ");
}

#[test]
fn a_mistake_in_a_large_yaml_file_is_shown_in_its_place() {
    let source = yaml_chain(60_000).replace("  t59000:\n    exec", "  t59000:\n    exce");
    let found = compile(source, "chain.yaml", &BTreeMap::new()).unwrap_err();
    assert_eq!(found.items[0].message, "unknown field `exce`");
    assert_eq!((found.items[0].labels[0].line, found.items[0].labels[0].column), (177_002, 5));
}

#[test]
fn many_tasks_can_use_the_same_anchor() {
    let mut source = "defaults: {resources: &big {cpu: 2, memory: 1Gi}}\ntasks:\n".to_owned();
    for task in 0..20_000 {
        let _ = writeln!(source, "  t{task}: {{run: echo $KAHN_TASK, resources: *big}}");
    }
    for task in 20_000..25_000 {
        let _ = writeln!(
            source,
            "  t{task}: {{run: echo $KAHN_TASK, resources: {{<<: *big, cpu: 1}}}}"
        );
    }
    let dag = compile(source, "dag.yaml", &BTreeMap::new()).unwrap().dag;
    assert_eq!((dag.n_tasks(), dag.profiles().len()), (25_000, 2));
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

/// Returns a file with a megabyte of parameters and a matrix of `n` instances.
fn heavy_matrix(n: usize) -> String {
    let long = "x".repeat(32_000);
    let params: String = (0..32).map(|at| format!("  p{at}: {long}\n")).collect();
    let values: Vec<String> = (0..n).map(|value| value.to_string()).collect();
    format!(
        "params:\n{params}tasks:\n  m:\n    matrix: {{v: [{}]}}\n    run: echo $MATRIX_v\n    \
         env: {{OTHER: '${{{{ params.p0 }}}}'}}\n",
        values.join(", ")
    )
}

#[test]
fn instances_share_the_text_of_parameters() {
    let n = 10_000;
    let dag = compile(heavy_matrix(n), "m.yaml", &BTreeMap::new()).unwrap().dag;
    assert_eq!((dag.n_tasks(), dag.works().len()), (n, n));
    let first = &dag.works()[0].env;
    for work in dag.works() {
        for ((name, value), (_, known)) in work.env.iter().zip(first) {
            let is_own = &**name == "MATRIX_v";
            assert!(is_own || value.is_same(known), "{name}");
        }
    }
}

/// Release builds only: the limit is reached after a gigabyte.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes a gigabyte and many seconds")]
fn texts_that_differ_between_instances_have_a_limit_for_the_whole_dag() {
    let param = "${{params.p}}".repeat(4);
    let values: Vec<String> = (0..10_000).map(|value| value.to_string()).collect();
    let source = format!(
        "params: {{p: {}}}\ntasks:\n  m:\n    matrix: {{v: [{}]}}\n    \
         exec: [a, '${{{{matrix.v}}}}{param}']\n",
        "x".repeat(32_000),
        values.join(", ")
    );
    let found = compile(source, "m.yaml", &BTreeMap::new()).unwrap_err();
    assert_eq!(found.items[0].code, Code::Limit);
    assert!(found.items[0].message.contains("more than 1073741824 bytes"), "{}", found.render());
    assert!(found.items[0].help.is_some());
}
