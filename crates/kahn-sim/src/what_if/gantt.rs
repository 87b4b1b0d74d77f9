//! Renders a [`Simulation`] as text for a terminal and as SVG.

use std::fmt::Write as _;
use std::time::Duration;

use kahn_model::Dag;

use super::{Placement, Simulation, WhatIf};

/// With more text rows than this, each worker gets a single row that shows its load.
const ROWS_MAX: usize = 48;
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const COLOURS: [&str; 8] =
    ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#9c755f"];

/// Renders with at most `width` columns, but at least 40.
///
/// Each task is a bar, with its name if it fits. If there would be too many rows, each worker has a
/// single row of bars whose height shows its load.
#[must_use]
pub fn text(dag: &Dag, question: &WhatIf, simulation: &Simulation, width: usize) -> String {
    let label = question.workers.iter().map(|w| w.name.chars().count()).max().unwrap_or(0).min(20);
    let columns = width.max(40) - label - 3;
    let lanes: Vec<Vec<Vec<Placement>>> =
        (0..question.workers.len()).map(|at| lanes_of(simulation, at)).collect();
    let n_rows: usize = lanes.iter().map(|lanes| lanes.len().max(1)).sum();
    let mut out = String::new();
    for (worker, lanes) in question.workers.iter().zip(&lanes) {
        let name: String = worker.name.chars().take(label).collect();
        if n_rows > ROWS_MAX {
            row(&mut out, &name, label, &density(simulation, lanes, columns));
            continue;
        }
        if lanes.is_empty() {
            row(&mut out, &name, label, &" ".repeat(columns));
        }
        for (at, lane) in lanes.iter().enumerate() {
            let name = if at == 0 { name.as_str() } else { "" };
            row(&mut out, name, label, &bars(dag, simulation, lane, columns));
        }
    }
    let end = format!("{:.3} s", simulation.makespan.as_secs_f64());
    let gap = columns.saturating_sub(end.len() + 1);
    writeln!(out, "{:label$} 0{:gap$}{end}", "", "").expect("invariant: a string takes all");
    out
}

/// Renders an SVG document with tooltips that show the name and times of each task.
#[must_use]
pub fn svg(dag: &Dag, question: &WhatIf, simulation: &Simulation) -> String {
    const WIDTH: f64 = 1000.0;
    const LEFT: f64 = 120.0;
    const ROW: f64 = 16.0;
    let total = simulation.makespan.as_secs_f64().max(1e-9);
    let mut body = String::new();
    let mut y = 10.0;
    for (at, worker) in question.workers.iter().enumerate() {
        let lanes = lanes_of(simulation, at);
        let name = escaped(&worker.name);
        let baseline = y + 12.0;
        writeln!(body, "<text x=\"4\" y=\"{baseline:.0}\">{name}</text>")
            .expect("invariant: a string takes all");
        for lane in lanes.iter().chain(lanes.is_empty().then_some(&Vec::new())) {
            for one in lane {
                let x = LEFT + one.start.as_secs_f64() / total * WIDTH;
                let w = ((one.end - one.start).as_secs_f64() / total * WIDTH).max(0.5);
                let (task, colour) =
                    (escaped(dag.task_name(one.task)), COLOURS[one.task.index() % COLOURS.len()]);
                let (from, to) = (one.start.as_secs_f64(), one.end.as_secs_f64());
                writeln!(
                    body,
                    "<rect x=\"{x:.2}\" y=\"{y:.0}\" width=\"{w:.2}\" height=\"14\" \
                     fill=\"{colour}\"><title>{task}: {from:.3} to {to:.3} s</title></rect>"
                )
                .expect("invariant: a string takes all");
            }
            y += ROW;
        }
    }
    let (width, height) = (LEFT + WIDTH + 20.0, y + 24.0);
    let end = y + 14.0;
    let right = LEFT + WIDTH;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n{body}\
         <text x=\"{LEFT:.0}\" y=\"{end:.0}\">0</text>\
         <text x=\"{right:.0}\" y=\"{end:.0}\" text-anchor=\"end\">{total:.3} s</text>\n</svg>\n"
    )
}

/// Distributes the tasks of a worker over the fewest lanes without overlaps.
fn lanes_of(simulation: &Simulation, worker: usize) -> Vec<Vec<Placement>> {
    let mut lanes: Vec<Vec<Placement>> = Vec::new();
    for one in simulation.placements.iter().filter(|one| one.worker == worker) {
        let is_free =
            |lane: &&mut Vec<Placement>| lane.last().is_none_or(|last| last.end <= one.start);
        match lanes.iter_mut().find(is_free) {
            Some(lane) => lane.push(*one),
            None => lanes.push(vec![*one]),
        }
    }
    lanes
}

fn row(out: &mut String, name: &str, label: usize, content: &str) {
    writeln!(out, "{name:<label$} │{content}│").expect("invariant: a string takes all");
}

fn column(at: Duration, makespan: Duration, columns: usize) -> usize {
    let whole = makespan.as_micros().max(1);
    let wide = u128::try_from(columns).unwrap_or(0);
    usize::try_from(at.as_micros() * wide / whole).unwrap_or(columns).min(columns)
}

fn bars(dag: &Dag, simulation: &Simulation, lane: &[Placement], columns: usize) -> String {
    let mut cells = vec![' '; columns];
    for one in lane {
        let from = column(one.start, simulation.makespan, columns).min(columns - 1);
        let to = column(one.end, simulation.makespan, columns).max(from + 1);
        let name: Vec<char> = dag.task_name(one.task).chars().collect();
        for (at, cell) in cells[from..to].iter_mut().enumerate() {
            let is_named = to - from > 2;
            let letter = at.checked_sub(1).and_then(|at| name.get(at).copied());
            *cell = match letter {
                Some(letter) if is_named && at + 1 < to - from => letter,
                _ if at == 0 && is_named => '▐',
                _ => '█',
            };
        }
    }
    cells.into_iter().collect()
}

fn density(simulation: &Simulation, lanes: &[Vec<Placement>], columns: usize) -> String {
    let mut busy = vec![0usize; columns];
    for one in lanes.iter().flatten() {
        let from = column(one.start, simulation.makespan, columns).min(columns - 1);
        let to = column(one.end, simulation.makespan, columns).max(from + 1);
        busy[from..to].iter_mut().for_each(|n| *n += 1);
    }
    let most = busy.iter().copied().max().unwrap_or(0).max(1);
    busy.into_iter().map(|n| LEVELS[(n * 8).div_ceil(most)]).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
