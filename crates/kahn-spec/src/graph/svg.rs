//! Renders a DAG as SVG without other programs. Phases run from left to right. Tasks are ordered by
//! the mean position of their neighbours (Sugiyama, Tagawa, Toda, "Methods for visual understanding
//! of hierarchical system structures", IEEE SMC 1981).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kahn_model::{Dag, TaskIx};

use super::{View, label};

const BOX_WIDTH: usize = 150;
const BOX_HEIGHT: usize = 28;
const COLUMN: usize = 220;
const ROW: usize = 44;
const MARGIN: usize = 20;
/// Maximum number of characters in a box.
const NAME_CHARS: usize = 20;
/// Number of reordering passes.
const SWEEPS: usize = 4;

/// Renders the DAG as an SVG image.
#[must_use]
pub fn svg(dag: &Dag) -> String {
    let mut view = View::of(dag);
    arrange(dag, &mut view);
    let n_rows = view.phases.iter().map(|tasks| tasks.len() + 1).max().unwrap_or(1);
    let width = 2 * MARGIN + view.phases.len() * COLUMN;
    let height = 2 * MARGIN + n_rows * ROW;
    let places: BTreeMap<TaskIx, (usize, usize)> = view
        .phases
        .iter()
        .enumerate()
        .flat_map(|(column, tasks)| {
            let place = move |row| (MARGIN + column * COLUMN, MARGIN + row * ROW);
            tasks.iter().enumerate().map(move |(row, task)| (*task, place(row)))
        })
        .collect();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<title>{}</title>\n",
        escaped(dag.name().as_str())
    );
    for (from, to, dependency) in view.edges(dag) {
        edge(&mut out, places[&from], places[&to], label(&dependency));
    }
    for task in view.tasks() {
        node(&mut out, dag.task_name(task), places[&task]);
    }
    for (column, hidden) in view.hidden.iter().enumerate().filter(|(_, hidden)| **hidden > 0) {
        let (x, y) = (MARGIN + column * COLUMN, MARGIN + view.phases[column].len() * ROW);
        let _ = writeln!(out, "<text x=\"{x}\" y=\"{}\">and {hidden} more</text>", y + 18);
    }
    if let Some(note) = view.note(dag) {
        let _ = writeln!(out, "<text x=\"{MARGIN}\" y=\"{}\">{note}</text>", height - 8);
    }
    out.push_str("</svg>\n");
    out
}

fn edge(out: &mut String, from: (usize, usize), to: (usize, usize), label: &str) {
    let (x1, y1) = (from.0 + BOX_WIDTH, from.1 + BOX_HEIGHT / 2);
    let (x2, y2) = (to.0, to.1 + BOX_HEIGHT / 2);
    let bend = (x2.saturating_sub(x1) / 2).max(20);
    let dashes = if label.is_empty() { "" } else { " stroke-dasharray=\"4 3\"" };
    let _ = writeln!(
        out,
        "<path d=\"M{x1} {y1} C{} {y1} {} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#888\"{dashes}>\
         <title>{label}</title></path>",
        x1 + bend,
        x2.saturating_sub(bend),
    );
}

fn node(out: &mut String, name: &str, (x, y): (usize, usize)) {
    let mut short: String = name.chars().take(NAME_CHARS).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    let _ = writeln!(
        out,
        "<g><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{BOX_WIDTH}\" \
         height=\"{BOX_HEIGHT}\" rx=\"4\" fill=\"#eef4fb\" stroke=\"#36648b\"/><text x=\"{}\" \
         y=\"{}\">{}</text></g>",
        escaped(name),
        x + 8,
        y + 18,
        escaped(&short),
    );
}

/// Orders each phase by the mean row of the connected tasks, in alternating directions.
fn arrange(dag: &Dag, view: &mut View) {
    let mut rows: BTreeMap<TaskIx, usize> = BTreeMap::new();
    let note = |rows: &mut BTreeMap<TaskIx, usize>, tasks: &[TaskIx]| {
        rows.extend(tasks.iter().enumerate().map(|(row, task)| (*task, row)));
    };
    view.phases.iter().for_each(|tasks| note(&mut rows, tasks));
    for sweep in 0..SWEEPS {
        let is_forward = sweep % 2 == 0;
        let n_phases = view.phases.len();
        for step in 0..n_phases {
            let at = if is_forward { step } else { n_phases - 1 - step };
            let mean = |task: &TaskIx| {
                let own = rows.get(task).copied().unwrap_or(0);
                let neighbours: Vec<usize> = if is_forward {
                    dag.dependencies(*task).filter_map(|d| rows.get(&d.task).copied()).collect()
                } else {
                    dag.dependents(*task).filter_map(|d| rows.get(&d.task).copied()).collect()
                };
                // In thousandths: integers avoid rounding differences that could change the order.
                let sum: usize = neighbours.iter().sum();
                (sum * 1000).checked_div(neighbours.len()).unwrap_or(own * 1000)
            };
            view.phases[at].sort_by_cached_key(mean);
            note(&mut rows, &view.phases[at]);
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}
