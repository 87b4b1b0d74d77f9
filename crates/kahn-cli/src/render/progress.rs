//! Formats the progress of a run: updated lines for a terminal, appended lines for a pipe.

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_client::{Event, Run, Waiting};
use kahn_model::{TaskState, Timestamp};

use super::text;

/// Maximum running tasks shown.
pub(crate) const RUNNING_SHOWN_MAX: usize = 5;
/// Maximum wait reasons shown.
pub(crate) const WAITING_SHOWN_MAX: usize = 3;
const BAR_WIDTH: u64 = 24;

/// The known state of a run in progress.
#[derive(Clone, Debug)]
pub(crate) struct Tracker {
    began_at: Timestamp,
    running: BTreeMap<String, Attempt>,
    run: Option<Run>,
    /// What its ready tasks waited for at the last request.
    waiting: Vec<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    number: u32,
    started_at: Timestamp,
}

impl Tracker {
    /// Creates a tracker at `now`, without any knowledge of the run.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { began_at: now, running: BTreeMap::new(), run: None, waiting: Vec::new() }
    }

    /// Handles an event. If it ends an attempt, returns when that attempt started.
    pub(crate) fn on_event(&mut self, event: &Event) -> Option<Timestamp> {
        if event.kind == "task_started" {
            let attempt = Attempt { number: event.attempt, started_at: event.at };
            self.running.insert(event.task.clone(), attempt);
            return None;
        }
        self.running.remove(&event.task).map(|attempt| attempt.started_at)
    }

    /// Updates the state of the run.
    pub(crate) fn on_run(&mut self, run: Run) {
        self.run = Some(run);
    }

    /// Returns whether tasks are ready but not leased yet.
    pub(crate) fn has_ready_tasks(&self) -> bool {
        self.run.as_ref().is_some_and(|run| !run.state.is_terminal() && has(run, TaskState::Ready))
    }

    /// Updates what the ready tasks wait for. Returns a line for each relevant reason that is new
    /// since the last call.
    pub(crate) fn on_waiting(&mut self, found: Vec<Waiting>) -> Vec<String> {
        let before = std::mem::replace(&mut self.waiting, found);
        let is_new = |waiting: &&Waiting| {
            let is_same = |b: &Waiting| b.code == waiting.code && b.message == waiting.message;
            !before.iter().any(is_same)
        };
        let lines = self.worth_telling().filter(is_new).take(WAITING_SHOWN_MAX);
        lines.map(|waiting| text::waiting(waiting) + &remedy(waiting)).collect()
    }

    /// Returns the relevant reasons: those that the end of other tasks of this run does not
    /// resolve.
    fn worth_telling(&self) -> impl Iterator<Item = &Waiting> {
        let holds = |run: &Run| has(run, TaskState::Running) || has(run, TaskState::Leased);
        let is_held_up = !self.run.as_ref().is_some_and(holds);
        self.waiting.iter().filter(move |waiting| {
            is_held_up || !matches!(waiting.code.as_str(), "no_room" | "max_parallel")
        })
    }

    fn waiting_lines(&self) -> impl Iterator<Item = String> {
        let shown = if self.has_ready_tasks() { WAITING_SHOWN_MAX } else { 0 };
        self.worth_telling().take(shown).map(|waiting| format!("  {}", text::waiting(waiting)))
    }

    /// Returns the lines for a terminal at `now`.
    pub(crate) fn frame(&self, now: Timestamp) -> Vec<String> {
        let Some(run) = &self.run else { return vec!["waiting for the coordinator".to_owned()] };
        let (ended, all) = (run.n_ended(), run.n_tasks());
        let mut first = format!(
            "{} {} {:>3}%  {ended}/{all} tasks",
            text::bold(&text::safe(&run.dag)),
            bar(ended, all),
            text::percent(ended, all),
        );
        if let Some(left) = self.remaining(run, now) {
            first.push_str(&format!("  about {} left", text::span(left)));
        }
        let mut second = format!("  {}", text::counts(&run.tasks));
        if let Some(percent) = path_percent(run) {
            second.push_str(&format!("; critical path {percent}%"));
        }
        let mut lines = vec![first, second];
        lines.extend(self.waiting_lines());
        lines.extend(self.running_lines(now));
        lines
    }

    /// Returns lines for the tasks that have been running longest.
    fn running_lines(&self, now: Timestamp) -> Vec<String> {
        let mut running: Vec<(&String, &Attempt)> = self.running.iter().collect();
        running.sort_by_key(|(name, attempt)| (attempt.started_at, *name));
        let mut lines = Vec::new();
        for (name, attempt) in running.iter().take(RUNNING_SHOWN_MAX) {
            let elapsed = text::span(now.since(attempt.started_at));
            let mut line = format!("  {elapsed:>8}  {}", text::safe(name));
            if attempt.number > 1 {
                line.push_str(&format!(" (attempt {})", attempt.number));
            }
            lines.push(line);
        }
        let n_more = running.len().saturating_sub(RUNNING_SHOWN_MAX);
        if n_more > 0 {
            lines.push(text::dim(&format!("            and {n_more} more")));
        }
        lines
    }

    /// Estimates the remaining time. It is at least the rest of the critical path, and at least
    /// what the remaining tasks take at the average rate so far.
    fn remaining(&self, run: &Run, now: Timestamp) -> Option<Duration> {
        let (ended, all) = (run.n_ended(), run.n_tasks());
        if ended == 0 || ended >= all || run.state.is_terminal() {
            return None;
        }
        let began_at = self.began_at.max(run.submitted_at);
        let elapsed = u128::from(u64::try_from(now.since(began_at).as_micros()).unwrap_or(0));
        let by_count = elapsed * u128::from(all - ended) / u128::from(ended);
        let by_count = Duration::from_micros(u64::try_from(by_count).unwrap_or(u64::MAX));
        Some(by_count.max(run.critical_path.saturating_sub(run.critical_path_done)))
    }
}

fn has(run: &Run, state: TaskState) -> bool {
    run.tasks.get(&state).is_some_and(|count| *count > 0)
}

fn remedy(waiting: &Waiting) -> String {
    match waiting.remedy.as_str() {
        "" => String::new(),
        remedy => format!(" (advice: {})", text::safe(remedy)),
    }
}

/// Draws a bar such as `#####-----`.
fn bar(part: u64, whole: u64) -> String {
    let full = (part.min(whole) * BAR_WIDTH).checked_div(whole).unwrap_or(BAR_WIDTH);
    let mark = |count: u64, c: &str| c.repeat(usize::try_from(count).unwrap_or(0));
    format!("[{}{}]", mark(full, "#"), mark(BAR_WIDTH - full, "-"))
}

fn path_percent(run: &Run) -> Option<u64> {
    let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let whole = micros(run.critical_path);
    (whole > 0).then(|| text::percent(micros(run.critical_path_done), whole))
}

/// Returns the line for an event in a pipe, if any, and whether it is urgent.
pub(crate) fn line(event: &Event, started_at: Option<Timestamp>) -> Option<(String, bool)> {
    let task = text::safe(&event.task);
    // The worker's own measure is exact; the events come with delays of their own.
    let took = event.elapsed.or_else(|| started_at.map(|at| event.at.since(at)));
    let took = took.map(|took| format!(" after {}", text::span(took))).unwrap_or_default();
    let cause = match event.cause.as_str() {
        "" => String::new(),
        cause => format!(": {}", text::why(cause, event.cause_code, &event.message)),
    };
    let attempt = match event.attempt {
        0 | 1 => String::new(),
        number => format!(" (attempt {number})"),
    };
    Some(match event.kind.as_str() {
        "task_started" => (format!("started {task}{attempt}"), false),
        "task_succeeded" => (format!("succeeded {task}{attempt}{took}"), false),
        "task_failed" => (format!("failed {task}{attempt}{took}{cause}"), true),
        "task_retried" => (format!("will try {task} again{cause}"), true),
        "task_skipped" => (format!("skipped {task}{cause}"), false),
        "task_cancelled" => (format!("cancelled {task}{cause}"), false),
        "worker_lost" => (format!("lost worker {}", text::safe(&event.worker)), true),
        "run_paused" | "run_resumed" | "run_cancelling" | "run_retried" => {
            (format!("{}{cause}", text::safe(&event.kind).replace('_', " ")), true)
        }
        _ => return None,
    })
}

/// Returns the line that replaces suppressed lines.
pub(crate) fn held_line(n_held: u64, run: Option<&Run>) -> String {
    match run {
        Some(run) => format!("... {n_held} more; {}", counts_line(run)),
        None => format!("... {n_held} more"),
    }
}

/// Formats the progress of a run in one line.
pub(crate) fn counts_line(run: &Run) -> String {
    let mut out = format!("{} of {} tasks ended", run.n_ended(), run.n_tasks());
    let failed = run.tasks.get(&TaskState::Failed).copied().unwrap_or(0);
    if failed > 0 {
        out.push_str(&format!(", {failed} failed"));
    }
    out
}

impl Tracker {
    /// Returns the last known state of the run.
    pub(crate) fn run(&self) -> Option<&Run> {
        self.run.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use kahn_model::RunState;

    use super::super::event::tests::event;
    use super::super::run::tests::run;
    use super::*;

    const START: u64 = 1_767_225_600_000_000;

    fn plain(lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    fn active() -> Run {
        Run {
            state: RunState::Active,
            finished_at: None,
            tasks: [(TaskState::Succeeded, 1), (TaskState::Running, 2), (TaskState::Pending, 1)]
                .into(),
            critical_path: Duration::from_secs(10),
            critical_path_done: Duration::from_secs(3),
            ..run()
        }
    }

    #[test]
    fn a_frame_shows_counts_estimate_and_running_tasks() {
        let mut tracker = Tracker::new(Timestamp(START));
        assert_eq!(tracker.frame(Timestamp(START)), ["waiting for the coordinator"]);
        tracker.on_run(active());
        tracker.on_event(&event(1, 0, "task_started", "young"));
        tracker.on_event(&Event { attempt: 2, ..event(2, 0, "task_started", "a\u{1b}") });
        tracker.on_event(&event(3, 500_000, "task_started", "young"));
        tracker.on_event(&event(4, 500_000, "task_started", "over"));
        tracker.on_event(&event(5, 600_000, "task_succeeded", "over"));
        assert_eq!(
            plain(&tracker.frame(Timestamp(START + 2_000_000))),
            [
                "etl [######------------------]  25%  1/4 tasks  about 7.0s left",
                "  1 succeeded, 2 running, 1 pending; critical path 30%",
                "      2.0s  a? (attempt 2)",
                "      1.5s  young",
            ]
        );
    }

    #[test]
    fn more_running_tasks_than_fit_are_counted() {
        let mut tracker = Tracker::new(Timestamp(START));
        tracker.on_run(active());
        for n in 0..8 {
            tracker.on_event(&event(n, n, "task_started", &format!("t{n}")));
        }
        let frame = plain(&tracker.frame(Timestamp(START + 1_000_000)));
        assert_eq!(frame.len(), 2 + 5 + 1);
        assert_eq!(frame[7], "            and 3 more");
    }

    fn waiting(n_tasks: u32, code: &str, message: &str) -> Waiting {
        let (first, remedy) = ("load".into(), "add workers".into());
        Waiting { n_tasks, first, code: code.into(), message: message.into(), remedy }
    }

    #[test]
    fn a_run_that_waits_for_placement_says_how_many_tasks_wait_and_why() {
        let ready = |running| Run {
            tasks: [(TaskState::Ready, 3), (TaskState::Running, running)].into(),
            ..active()
        };
        let mut tracker = Tracker::new(Timestamp(START));
        tracker.on_run(ready(0));
        assert!(tracker.has_ready_tasks());
        let (busy, none) =
            (waiting(2, "no_room", "all are busy"), waiting(1, "no_worker", "there is none"));
        assert_eq!(
            tracker.on_waiting(vec![busy.clone(), none.clone()]),
            [
                "2 tasks wait, load first: all are busy (advice: add workers)",
                "task load waits: there is none (advice: add workers)",
            ]
        );
        let frame = plain(&tracker.frame(Timestamp(START)));
        assert_eq!(frame[2], "  2 tasks wait, load first: all are busy");
        assert_eq!(frame[3], "  task load waits: there is none");
        // Each reason is shown once for as long as it lasts.
        assert!(tracker.on_waiting(vec![busy.clone(), none.clone()]).is_empty());
        assert!(tracker.on_waiting(vec![none.clone()]).is_empty());
        assert_eq!(tracker.on_waiting(vec![busy.clone(), none]).len(), 1);

        // While tasks of the run are running, it is normal that others wait.
        tracker.on_run(ready(1));
        assert!(tracker.on_waiting(vec![busy]).is_empty());
        assert_eq!(tracker.frame(Timestamp(START)).len(), 2);
        tracker.on_run(Run { tasks: [(TaskState::Running, 3)].into(), ..active() });
        assert!(!tracker.has_ready_tasks());
    }

    #[test]
    fn an_ended_run_has_no_time_left() {
        let mut tracker = Tracker::new(Timestamp(START));
        tracker.on_run(run());
        let frame = plain(&tracker.frame(Timestamp(START)));
        assert_eq!(frame[0], "etl [########################] 100%  3/3 tasks");
    }

    #[test]
    fn lines_for_a_pipe_say_what_happened() {
        let mut tracker = Tracker::new(Timestamp(START));
        let started = event(1, 0, "task_started", "load");
        assert_eq!(tracker.on_event(&started), None);
        assert_eq!(line(&started, None), Some(("started load".into(), false)));
        let failed = Event {
            cause: "exit_code".into(),
            cause_code: 3,
            message: "no room".into(),
            ..event(2, 1_200_000, "task_failed", "load")
        };
        let at = tracker.on_event(&failed);
        let text = "failed load after 1.2s: exit code 3: no room".to_owned();
        assert_eq!(line(&failed, at), Some((text, true)));
        let measured = Event { elapsed: Some(Duration::from_millis(1500)), ..failed };
        let text = "failed load after 1.5s: exit code 3: no room".to_owned();
        assert_eq!(line(&measured, at), Some((text, true)));
        assert_eq!(line(&event(3, 0, "task_ready", "load"), None), None);
        assert_eq!(held_line(7, Some(&run())), "... 7 more; 3 of 3 tasks ended, 1 failed");
    }
}
