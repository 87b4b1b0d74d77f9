//! Entry points for fuzzing: whatever the bytes, they return.

use std::collections::BTreeMap;

use crate::expr::{Scope, evaluate_condition, references};

/// Compiles the bytes as a DAG file, and renders what is said about them.
pub fn document(bytes: &[u8]) {
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
pub fn expression(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if references(text).is_ok() {
        // Most expressions fail on an empty scope; what counts is that they end.
        let _ = evaluate_condition(text, &Scope::default());
    }
}
