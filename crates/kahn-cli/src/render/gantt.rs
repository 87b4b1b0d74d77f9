//! The course of a run as a chart: a lane for each slot of each worker, time from left to right.

use std::fmt::Write as _;
use std::time::Duration;

use kahn_model::Dag;

use super::text;
use crate::what_if::{Course, Placed};

const TEXT_WIDTH: u32 = 72;
/// Most lanes that are drawn.
const LANES_MAX: usize = 200;
const SVG_WIDTH: u32 = 1000;
const SVG_MARGIN: u32 = 90;
const SVG_ROW: u32 = 18;

/// Tasks of one worker that follow one another.
#[derive(Debug, Default)]
struct Lane {
    worker: u32,
    placed: Vec<Placed>,
}

/// As few lanes as there are tasks at one time on a worker: each task goes to the first lane that
/// is free.
fn lanes(course: &Course) -> Vec<Lane> {
    let mut by_worker: std::collections::BTreeMap<u32, Vec<Lane>> = Default::default();
    for placed in &course.placed {
        let lanes = by_worker.entry(placed.worker).or_default();
        let is_free =
            |lane: &&mut Lane| lane.placed.last().is_none_or(|last| last.finish <= placed.start);
        match lanes.iter_mut().find(is_free) {
            Some(lane) => lane.placed.push(*placed),
            None => lanes.push(Lane { worker: placed.worker, placed: vec![*placed] }),
        }
    }
    by_worker.into_values().flatten().collect()
}

/// Where a moment is, out of `width`.
fn scaled(at: Duration, course: &Course, width: u32) -> u32 {
    let whole = course.makespan.as_micros().max(1);
    let at = at.as_micros().min(whole) * u128::from(width) / whole;
    u32::try_from(at).unwrap_or(width)
}

fn columns(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// The chart as text.
pub(crate) fn text(dag: &Dag, course: &Course) -> String {
    let lanes = lanes(course);
    let end = text::span(course.makespan);
    let width = columns(TEXT_WIDTH);
    let mut out = format!("{:10}0{end:>width$}\n", "", width = width - 1);
    for lane in lanes.iter().take(LANES_MAX) {
        let mut row: Vec<char> = vec![' '; width];
        for placed in &lane.placed {
            paint(&mut row, dag.task_name(placed.task), placed, course);
        }
        let row: String = row.into_iter().collect();
        let _ = writeln!(out, "worker {:<3}{}", lane.worker, row.trim_end());
    }
    if lanes.len() > LANES_MAX {
        let _ = writeln!(out, "and {} more lanes", lanes.len() - LANES_MAX);
    }
    out
}

/// `[name====]`, as far as there is room.
fn paint(row: &mut [char], name: &str, placed: &Placed, course: &Course) {
    let from = columns(scaled(placed.start, course, TEXT_WIDTH)).min(row.len() - 1);
    let to = columns(scaled(placed.finish, course, TEXT_WIDTH)).clamp(from + 1, row.len());
    let cells = &mut row[from..to];
    cells.fill('=');
    match cells {
        [one] => *one = '|',
        [first, inner @ .., last] => {
            (*first, *last) = ('[', ']');
            for (cell, c) in inner.iter_mut().zip(name.chars()) {
                *cell = c;
            }
        }
        [] => {}
    }
}

/// The chart as an SVG image.
pub(crate) fn svg(dag: &Dag, course: &Course) -> String {
    let lanes = lanes(course);
    let n_lanes = u32::try_from(lanes.len().min(LANES_MAX)).unwrap_or(u32::MAX);
    let (width, height) = (SVG_WIDTH + SVG_MARGIN + 20, (n_lanes + 2) * SVG_ROW);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<title>{} in {}</title>\n",
        dag.name(),
        text::span(course.makespan)
    );
    for (row, lane) in (0..).zip(lanes.iter().take(LANES_MAX)) {
        let y = row * SVG_ROW + 4;
        let _ = writeln!(out, "<text x=\"4\" y=\"{}\">worker {}</text>", y + 12, lane.worker);
        for placed in &lane.placed {
            bar(&mut out, dag.task_name(placed.task), placed, course, y);
        }
    }
    let y = (n_lanes + 1) * SVG_ROW + 4;
    let _ = writeln!(out, "<text x=\"{SVG_MARGIN}\" y=\"{y}\">0</text>");
    let end = text::span(course.makespan);
    let x = SVG_MARGIN + SVG_WIDTH;
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{end}</text>\n</svg>");
    out
}

fn bar(out: &mut String, name: &str, placed: &Placed, course: &Course, y: u32) {
    let from = scaled(placed.start, course, SVG_WIDTH);
    let width = scaled(placed.finish, course, SVG_WIDTH).saturating_sub(from).max(1);
    let x = SVG_MARGIN + from;
    let took = text::span(placed.finish.saturating_sub(placed.start));
    // Names hold no character that XML minds.
    let _ = writeln!(
        out,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{}\" fill=\"#9ecae1\" \
         stroke=\"#3182bd\"><title>{name} {took}</title></rect>",
        SVG_ROW - 4
    );
    let n_chars = columns(width / 7);
    if n_chars >= 2 {
        let short: String = name.chars().take(n_chars).collect();
        let _ = writeln!(out, "<text x=\"{}\" y=\"{}\">{short}</text>", x + 3, y + 11);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use kahn_model::{Action, DagBuilder, Name, NewTask, RunPolicy, TaskIx, Work};

    use super::*;

    /// `a` for 1 s, then `b` and `c` for 2 s and 3 s.
    pub(crate) fn fork() -> Dag {
        let mut builder = DagBuilder::new(Name::new("fork").unwrap(), RunPolicy::default());
        let mut add = |name: &str, seconds| {
            let action = Action::Sleep { duration: Duration::from_secs(seconds) };
            let mut new = NewTask::new(Name::new(name).unwrap(), Work::new(action));
            new.profile.resources = "cpu=1".parse().unwrap();
            builder.task(new).unwrap()
        };
        let (a, b, c) = (add("a", 1), add("b", 2), add("c", 3));
        builder.after(b, a);
        builder.after(c, a);
        builder.build().unwrap()
    }

    /// That on one worker with two processors.
    pub(crate) fn course() -> Course {
        let placed = |task, start, finish| Placed {
            task: TaskIx(task),
            worker: 0,
            start: Duration::from_secs(start),
            finish: Duration::from_secs(finish),
        };
        let placed = vec![placed(0, 0, 1), placed(1, 1, 3), placed(2, 1, 4)];
        Course { makespan: Duration::from_secs(4), placed }
    }

    #[test]
    fn tasks_at_one_time_are_in_lanes_of_their_own() {
        let text = text(&fork(), &course());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("          0") && lines[0].ends_with("4.0s"), "{text}");
        assert_eq!(lines[1], format!("worker 0  [a{}][b{}]", "=".repeat(15), "=".repeat(33)));
        assert_eq!(lines[2], format!("worker 0  {}[c{}]", " ".repeat(18), "=".repeat(51)));
    }

    #[test]
    fn the_drawing_has_a_bar_for_each_task() {
        let svg = svg(&fork(), &course());
        assert_eq!(svg.matches("<rect").count(), 3);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("<title>c 3.0s</title>"), "{svg}");
    }

    #[test]
    fn a_run_of_no_length_can_be_drawn() {
        let at_once =
            Placed { task: TaskIx(0), worker: 0, start: Duration::ZERO, finish: Duration::ZERO };
        let course = Course { makespan: Duration::ZERO, placed: vec![at_once] };
        assert!(text(&fork(), &course).contains("worker 0  |"));
        assert_eq!(svg(&fork(), &course).matches("<rect").count(), 1);
    }
}
