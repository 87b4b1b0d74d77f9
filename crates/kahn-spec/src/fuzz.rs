//! Entry points for fuzzing: whatever the bytes, they return.
//!
//! The crate turns a panic on its large stack into an error, for the sake of whoever runs it. Here
//! it must come out, so all is done on one large stack whose end is looked at.

use std::collections::BTreeMap;

use crate::expr::{Scope, evaluate_condition, on_large_stack, references};

/// Compiles the bytes as a DAG file, and renders what is said about them.
///
/// # Panics
///
/// When the compiler does, or says what it should not.
pub fn document(bytes: &[u8]) {
    on_large_stack(|| compile(bytes)).expect("invariant: no file makes the compiler panic");
}

fn compile(bytes: &[u8]) {
    match crate::compile(bytes, "fuzz", &BTreeMap::new()) {
        Ok(compiled) => {
            let order = compiled.dag.topological_order();
            assert_eq!(order.len(), compiled.dag.n_tasks());
            let warnings = compiled.warnings.map_or(String::new(), |warnings| warnings.render());
            assert!(!warnings.contains('\u{1b}'));
        }
        Err(found) => {
            let text = found.render();
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        }
    }
}

/// Reads and evaluates the bytes as an expression.
///
/// # Panics
///
/// When the guard or the interpreter does.
pub fn expression(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    on_large_stack(|| evaluate(text)).expect("invariant: no expression panics");
}

fn evaluate(text: &str) {
    if references(text).is_ok() {
        // Most expressions fail on an empty scope; what counts is that they end.
        let _ = evaluate_condition(text, &Scope::default());
    }
}
