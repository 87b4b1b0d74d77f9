//! Compiles valid and invalid DAG files, and checks the results and the diagnostics. The compiler
//! must not panic on any input.

mod mistakes;
mod shapes;

use std::collections::BTreeMap;

use kahn_model::{Dag, TaskIx};
use kahn_spec::{Compiled, Diagnostics, ParamValue, compile};
use proptest::prelude::*;
use shapes::FULL;

pub(crate) fn none() -> BTreeMap<String, ParamValue> {
    BTreeMap::new()
}

pub(crate) fn good(source: &str) -> Compiled {
    compile(source, "dag.yaml", &none()).unwrap_or_else(|found| panic!("{}", found.render()))
}

pub(crate) fn bad(source: &str) -> Diagnostics {
    match compile(source, "dag.yaml", &none()) {
        Ok(_) => panic!("compiled: {source}"),
        Err(found) => found,
    }
}

pub(crate) fn task(dag: &Dag, name: &str) -> TaskIx {
    dag.task_by_name(name).unwrap_or_else(|| panic!("no task {name}"))
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
