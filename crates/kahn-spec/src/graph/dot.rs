//! Renders a DAG for Graphviz.

use std::fmt::Write as _;

use kahn_model::Dag;

use super::{View, label};

/// Renders the DAG in the DOT language.
#[must_use]
pub fn dot(dag: &Dag) -> String {
    let view = View::of(dag);
    let mut out =
        format!("digraph {} {{\n  rankdir=LR;\n  node [shape=box];\n", quoted(dag.name().as_str()));
    for task in view.tasks() {
        let keyword = dag.work(task).action.keyword();
        let name = dag.task_name(task);
        let _ = writeln!(out, "  {} [tooltip={}];", quoted(name), quoted(keyword));
    }
    for (from, to, dependency) in view.edges(dag) {
        let (from, to) = (quoted(dag.task_name(from)), quoted(dag.task_name(to)));
        match label(&dependency) {
            "" => _ = writeln!(out, "  {from} -> {to};"),
            text => _ = writeln!(out, "  {from} -> {to} [label={}, style=dashed];", quoted(text)),
        }
    }
    if let Some(note) = view.note(dag) {
        let _ = writeln!(out, "  label={};", quoted(&note));
    }
    out.push_str("}\n");
    out
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
