//! Renders a DAG for Mermaid, which many Markdown viewers support.

use std::fmt::Write as _;

use kahn_model::Dag;

use super::{View, label};

/// Renders the DAG as a Mermaid flowchart.
#[must_use]
pub fn mermaid(dag: &Dag) -> String {
    let view = View::of(dag);
    let mut out = "flowchart LR\n".to_owned();
    for task in view.tasks() {
        let _ = writeln!(out, "  t{}[\"{}\"]", task.index(), escaped(dag.task_name(task)));
    }
    for (from, to, dependency) in view.edges(dag) {
        let (from, to) = (from.index(), to.index());
        match label(&dependency) {
            "" => _ = writeln!(out, "  t{from} --> t{to}"),
            text => _ = writeln!(out, "  t{from} -. {text} .-> t{to}"),
        }
    }
    if let Some(note) = view.note(dag) {
        let _ = writeln!(out, "  note[\"{}\"]", escaped(&note));
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}
