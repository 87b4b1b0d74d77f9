//! Shows progress: as updated lines on a terminal, as appended lines in a pipe, or not at all.

use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kahn_client::{Event, Run, Waiting};
use kahn_model::Timestamp;

use crate::output;
use crate::render::progress::{self, RUNNING_SHOWN_MAX, Tracker, WAITING_SHOWN_MAX};
use crate::render::throttle::Throttle;

/// A header of two lines, the wait reasons, the running tasks, and a count of the others.
const LINES_MAX: usize = 3 + WAITING_SHOWN_MAX + RUNNING_SHOWN_MAX;

/// Time between two lines with counts.
const COUNTS_EVERY: Duration = Duration::from_secs(2);

/// Shows the progress of one run on stderr.
#[derive(Debug)]
pub(super) struct Screen {
    tracker: Tracker,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Terminal {
        bars: MultiProgress,
        lines: Vec<ProgressBar>,
    },
    Pipe(Throttle),
    /// For a run too large for a line per task.
    CountsInPipe {
        said_at: Timestamp,
    },
    Silent,
}

impl Screen {
    /// Creates a screen: updated lines for a terminal, appended lines for a pipe, and nothing for
    /// JSON output.
    pub(super) fn new(is_json: bool, is_by_counts: bool, now: Timestamp) -> Self {
        let kind = match (stderr().is_terminal(), is_json) {
            (false, false) if is_by_counts => Kind::CountsInPipe { said_at: now },
            (true, _) => Kind::Terminal {
                bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)),
                lines: Vec::new(),
            },
            (false, true) => Kind::Silent,
            (false, false) => Kind::Pipe(Throttle::default()),
        };
        Self { tracker: Tracker::new(now), kind }
    }

    pub(super) fn on_run(&mut self, run: Run) {
        self.tracker.on_run(run);
    }

    pub(super) fn on_event(&mut self, event: &Event, now: Timestamp) {
        let started_at = self.tracker.on_event(event);
        let Some((line, is_urgent)) = progress::line(event, started_at) else { return };
        match &mut self.kind {
            Kind::Pipe(throttle) => {
                if throttle.admits(now, is_urgent) {
                    output::note(&line);
                }
            }
            Kind::Terminal { .. } if is_urgent => self.say(&line),
            Kind::Terminal { .. } | Kind::CountsInPipe { .. } | Kind::Silent => {}
        }
    }

    /// Returns whether the screen needs to know what tasks wait for.
    pub(super) fn shows_waiting(&self) -> bool {
        !matches!(self.kind, Kind::Silent) && self.tracker.has_ready_tasks()
    }

    /// Updates what the ready tasks of the run wait for.
    pub(super) fn on_waiting(&mut self, waiting: Vec<Waiting>) {
        let lines = self.tracker.on_waiting(waiting);
        if !matches!(self.kind, Kind::Terminal { .. }) {
            lines.iter().for_each(|line| self.say(line));
        }
    }

    /// Prints a permanent line.
    pub(super) fn say(&self, line: &str) {
        match &self.kind {
            // Errors are ignored: stderr may be closed.
            Kind::Terminal { bars, .. } => drop(bars.println(line)),
            Kind::Pipe(_) | Kind::CountsInPipe { .. } => output::note(line),
            Kind::Silent => {}
        }
    }

    /// Updates the display.
    pub(super) fn draw(&mut self, now: Timestamp) {
        match &mut self.kind {
            Kind::Terminal { bars, lines } => show(bars, lines, &self.tracker.frame(now)),
            Kind::Pipe(throttle) => {
                if let Some(n_held) = throttle.held(now) {
                    output::note(&progress::held_line(n_held, self.tracker.run()));
                }
            }
            Kind::CountsInPipe { said_at } => {
                if let Some(run) = self.tracker.run()
                    && COUNTS_EVERY <= now.since(*said_at)
                {
                    *said_at = now;
                    output::note(&progress::counts_line(run));
                }
            }
            Kind::Silent => {}
        }
    }

    /// Runs `write`, which prints on stdout, while nothing is shown.
    pub(super) fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        match &self.kind {
            Kind::Terminal { bars, .. } => bars.suspend(write),
            Kind::Pipe(_) | Kind::CountsInPipe { .. } | Kind::Silent => write(),
        }
    }

    /// Removes the lines that are shown only during the run.
    pub(super) fn finish(mut self, now: Timestamp) {
        match &self.kind {
            Kind::Terminal { bars, .. } => drop(bars.clear()),
            Kind::Pipe(_) => self.draw(now),
            Kind::CountsInPipe { .. } | Kind::Silent => {}
        }
    }
}

fn show(bars: &MultiProgress, lines: &mut Vec<ProgressBar>, frame: &[String]) {
    let n_shown = frame.len().min(LINES_MAX);
    while lines.len() < n_shown {
        let bar = ProgressBar::no_length();
        bar.set_style(
            ProgressStyle::with_template("{wide_msg}").expect("invariant: a valid template"),
        );
        lines.push(bars.add(bar));
    }
    for bar in lines.drain(n_shown..) {
        bars.remove(&bar);
    }
    let is_plain = AutoStream::choice(&stderr()) == ColorChoice::Never;
    for (bar, line) in lines.iter().zip(frame) {
        bar.set_message(if is_plain { strip_str(line).to_string() } else { line.clone() });
    }
}
