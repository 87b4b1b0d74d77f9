//! The DAG files in the documentation must be valid.

use std::collections::BTreeMap;

use kahn_spec::compile;

/// Returns the YAML blocks of a page with their line numbers.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    let mut block: Option<(usize, String)> = None;
    for (line, text) in (1..).zip(page.lines()) {
        match &mut block {
            None if text == "```yaml" => block = Some((line + 1, String::new())),
            None => {}
            Some(_) if text == "```" => out.extend(block.take()),
            Some((_, body)) => {
                body.push_str(text);
                body.push('\n');
            }
        }
    }
    out
}

#[test]
fn every_dag_file_of_the_documentation_is_valid() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let mut n_blocks = 0;
    for page in ["README.md", "docs/dag-file.md"] {
        let text = std::fs::read_to_string(format!("{root}/{page}")).unwrap();
        for (line, block) in blocks(&text) {
            n_blocks += 1;
            if let Err(report) = compile(block.as_bytes(), "dag.yaml", &BTreeMap::new()) {
                panic!("{page}, line {line}:\n{}", report.render());
            }
        }
    }
    assert!(n_blocks >= 5, "{n_blocks} blocks");
}
