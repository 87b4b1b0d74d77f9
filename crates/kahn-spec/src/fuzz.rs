//! Entry points for fuzzing: they must return for any input.
//!
//! The crate turns a panic on its large stack into an error. Here a panic must surface, so
//! everything runs on one large stack whose result is checked.

use std::collections::BTreeMap;

use crate::expr::{Scope, evaluate_condition, on_large_stack, references};

/// Compiles the bytes as a DAG file and renders the diagnostics.
///
/// # Panics
///
/// Panics if the compiler panics or if the rendered text contains control characters.
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

/// Parses and evaluates the bytes as an expression.
///
/// # Panics
///
/// Panics if the guard or the interpreter panics.
pub fn expression(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    on_large_stack(|| evaluate(text)).expect("invariant: no expression panics");
}

fn evaluate(text: &str) {
    if references(text).is_ok() {
        // Most expressions fail on an empty scope; they only have to terminate.
        let _ = evaluate_condition(text, &Scope::default());
    }
}
