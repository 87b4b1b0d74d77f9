//! Fuzz tests: DAG files and expressions must not panic on any input.

use std::collections::BTreeMap;

#[cfg(test)]
#[path = "fuzz/driver.rs"]
mod driver;

/// Files that compile, in every format, and files that almost compile.
#[cfg(test)]
fn files() -> Vec<Vec<u8>> {
    let full = include_str!("fuzz/full.yaml");
    kahn_spec::compile(full, "full", &BTreeMap::new()).unwrap_or_else(|found| panic!("{found}"));
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    let mut paths: Vec<_> =
        std::fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let is_dag = |path: &std::path::PathBuf| {
        path.extension().is_some_and(|ending| ending == "yaml" || ending == "json")
    };
    let examples = paths.into_iter().filter(is_dag).map(|path| std::fs::read(path).unwrap());
    let own = [
        full,
        r#"{"name":"d","tasks":{"a":{"run":"x","retry":{"max_attempts":2}},"b":{"sleep":1.5,"needs":"a"}}}"#,
        "tasks: {a: {run: x, needs: [b]}, b: {noop: true, needs: [a]}}",
        "a: &a [x, *a]\nb: !!map {<<: *a, ? [1] : |-\n  x\n}\n--- # y\n...\n",
        "tasks: {m: {matrix: {v: [1, 2], w: {from: 1}}, exec: ['${{ matrix.v }}', \"\\u0007\"]}}",
        "policy: {timeout: 1h30m, priority: 99999999999999999999}\ntasks: {a: {sleep: 1e999}}",
    ];
    examples.chain(own.map(|text| text.as_bytes().to_vec())).collect()
}

#[cfg(test)]
fn expressions() -> Vec<Vec<u8>> {
    let all = [
        "params.a == 'x' && tasks.b.outputs.n > 0",
        "tasks.a.status in ['succeeded', \"failed\"] || matrix.v != null",
        "[1, 2.5, -3, 0x10, 4u, b'\\xff'].map(x, x * 2).exists(y, y > 3)",
        "{'a': [1], true: {}}['a'][0] / 2 % 3 ? 'ä\\u00e4' : r'\\d'",
        "has(tasks.a.outputs.k) && size(run.id) < 9223372036854775807",
        "'aaaaaaaaaaaaaaaa'.matches('(a+)+$') || string(1.5e300) + \"x\" == ''",
        "timestamp('2026-01-01T00:00:00Z') + duration('1h30m') > timestamp(run.at)",
        "[[1, 2], [3]].all(x, x.all(y, y > 0)) && !(int('7') - -9223372036854775808 < 0)",
        "//kahn{\"params\":{\"a\":1}}\nparams.a + 1 > 0",
        "tasks.m.filter(i, i.exit_code == 0).size() >= double(2)",
        "'''a\n''' + \"\"\"b\"\"\" // c\n",
    ];
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn no_bytes_break_the_dag_file() {
    driver::drive("dag file", &files(), kahn_spec::fuzz::document);
}

#[test]
fn no_bytes_break_the_expression_guard() {
    driver::drive("expression", &expressions(), kahn_spec::fuzz::expression);
}
