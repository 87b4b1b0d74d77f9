//! Follows a run to its end: shows its progress and then a summary.

mod screen;

use std::pin::Pin;
use std::time::Duration;

use kahn_client::{Client, LogQuery, Run, TaskFilter, Update, Watch};
use kahn_model::{Dag, Resources, RunId, Timestamp};
use kahn_runtime::clock::Clock;
use kahn_runtime::shutdown::Shutdown;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::exit::Failure;
use crate::logs::{Piece, RunOutput, Style};
use crate::output;
use crate::render::event::EventJson;
use crate::render::summary::{Collector, Summary};
use screen::Screen;

/// Larger DAGs are followed by their counts alone: a line per task would be unreadable.
const EVENTS_FOLLOWED_MAX: usize = 10_000;
const REDRAW_EVERY: Duration = Duration::from_millis(120);
/// How long tasks may be ready before it is shown what they wait for.
const WAITS_UNTOLD: Duration = Duration::from_secs(1);
/// Time between two requests for what tasks wait for.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// Maximum failed tasks whose output is shown.
const TAILS_MAX: usize = 5;
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 10;
/// How long to wait for the last output after the end of a run.
const LAST_OUTPUT_WAIT: Duration = Duration::from_secs(10);
const TASKS_PER_PAGE: u32 = 5000;

/// A run to follow.
#[derive(Debug)]
pub(crate) struct Follow<'a> {
    /// The client of the coordinator.
    pub client: &'a Client,
    /// The run.
    pub run: RunId,
    /// Its DAG, if known.
    pub dag: Option<&'a Dag>,
    /// Whether results are printed as JSON.
    pub is_json: bool,
    /// Whether each event is printed as a JSON object on stdout.
    pub prints_events: bool,
    /// Whether the output of tasks is printed on stdout as it comes, prefixed by the task.
    pub prints_output: bool,
    /// The first shutdown request cancels the run, the second stops waiting. If `None`, a signal
    /// ends the process and the run continues.
    pub shutdown: Option<&'a Shutdown>,
}

impl Follow<'_> {
    /// Waits until the run has ended. Returns `None` if requested to stop waiting.
    pub(crate) async fn to_end(&self) -> Result<Option<Run>, Failure> {
        let mut state = FollowState::new(self);
        let mut watch = match self.is_by_counts() {
            true => self.client.watch_summary(self.run),
            false => self.client.watch(self.run, 0),
        };
        let mut last = None;
        loop {
            let update = match self.next(&mut watch, &mut state).await? {
                Next::Update(update) => update,
                Next::Ended => break,
                Next::Stopped => return Ok(None),
            };
            self.take(&update, &mut state)?;
            last = update.run.or(last);
        }
        self.print_last_output(&mut state).await?;
        let now = state.now();
        state.screen.finish(now);
        match last {
            Some(run) => Ok(Some(run)),
            None => Ok(Some(self.client.get(self.run).await?)),
        }
    }

    /// Waits for the next update, and does all else that is due until then.
    async fn next(&self, watch: &mut Watch, state: &mut FollowState) -> Result<Next, Failure> {
        // A redraw must not restart the timers in this future.
        let next = watch.next();
        tokio::pin!(next);
        loop {
            tokio::select! {
                update = &mut next => {
                    let next = update?.map(Box::new).map_or(Next::Ended, Next::Update);
                    return Ok(next);
                }
                _ = state.tick.tick() => state.draw(),
                piece = next_piece(&mut state.output) => state.print(piece)?,
                _ = state.ask.tick(), if state.should_request_waits() => {
                    let (client, run) = (self.client.clone(), self.run);
                    state.asked = Some(Box::pin(async move { client.get(run).await }));
                }
                found = answer(&mut state.asked) => {
                    state.asked = None;
                    // On an error, the request is repeated later.
                    if let Ok(run) = found {
                        state.screen.on_waiting(run.waiting);
                    }
                }
                () = stop_requested(self.shutdown, state.is_cancelled) => {
                    if state.is_cancelled {
                        return Ok(Next::Stopped);
                    }
                    state.is_cancelled = true;
                    state.screen.say("cancelling; interrupt again to stop immediately");
                    // The outcome is seen through the watch. The run may have ended in the
                    // meantime.
                    drop(self.client.cancel(self.run, "interrupted").await);
                }
            }
        }
    }

    /// Prints what tasks have printed last, which may come after the end of the run.
    async fn print_last_output(&self, state: &mut FollowState) -> Result<(), Failure> {
        let is_cancelled = state.is_cancelled;
        let rest = async {
            while state.output.is_some() {
                let piece = next_piece(&mut state.output).await;
                state.print(piece)?;
            }
            Ok(())
        };
        let done = tokio::select! {
            done = tokio::time::timeout(LAST_OUTPUT_WAIT, rest) => done.ok(),
            () = stop_requested(self.shutdown, is_cancelled) => None,
        };
        done.unwrap_or_else(|| {
            state.screen.say("the last output of tasks is missing; see `kahn logs`");
            Ok(())
        })
    }

    fn is_by_counts(&self) -> bool {
        let is_large = self.dag.is_some_and(|dag| dag.n_tasks() > EVENTS_FOLLOWED_MAX);
        is_large && !self.prints_events
    }

    fn take(&self, update: &Update, state: &mut FollowState) -> Result<(), Failure> {
        if self.prints_events {
            output::json_lines(update.events.iter().map(EventJson::of))?;
        }
        let now = state.now();
        if let Some(run) = &update.run {
            state.screen.on_run(run.clone());
        }
        for event in &update.events {
            state.screen.on_event(event, now);
        }
        Ok(())
    }

    /// Returns the summary of an ended run.
    pub(crate) async fn summarise(&self, run: Run) -> Result<Summary, Failure> {
        let mut collector = Collector::new(self.dag);
        let mut page: Option<String> = None;
        loop {
            let filter = TaskFilter::default();
            let found =
                self.client.list_tasks(self.run, &filter, TASKS_PER_PAGE, page.as_deref()).await?;
            found.items.into_iter().for_each(|task| collector.take(task));
            page = found.next;
            if page.is_none() {
                break;
            }
        }
        let mut summary = collector.finish(run, &self.capacity().await?);
        // What was printed already is not repeated.
        let n_tails = if self.prints_output { 0 } else { TAILS_MAX };
        for failed in summary.failed.iter_mut().take(n_tails) {
            if failed.task.attempt > 0 {
                failed.log_tail = self.log_tail(&failed.task.name).await;
            }
        }
        Ok(summary)
    }

    /// Returns the total capacity of all attached workers.
    async fn capacity(&self) -> Result<Resources, Failure> {
        let mut sum = Resources::none();
        for worker in self.client.list_workers().await? {
            if worker.status == "attached"
                && let Ok(capacity) = worker.capacity.parse()
            {
                sum.add(&capacity);
            }
        }
        Ok(sum)
    }

    /// Returns the last output lines of a task, or none if they are unavailable.
    async fn log_tail(&self, task: &str) -> Vec<String> {
        let query = LogQuery { tail_bytes: Some(TAIL_BYTES), ..LogQuery::new(self.run, task) };
        let mut logs = self.client.logs(query);
        let mut bytes = Vec::new();
        let mut is_cut = false;
        while let Ok(Some(piece)) = logs.next().await {
            is_cut |= bytes.is_empty() && piece.offset > 0;
            bytes.extend(piece.data);
        }
        last_lines(&bytes, is_cut)
    }
}

/// The result of waiting for an update.
enum Next {
    Update(Box<Update>),
    /// The run has ended.
    Ended,
    /// The user does not want to wait any longer.
    Stopped,
}

/// The state of following a run between two updates.
struct FollowState {
    clock: Clock,
    screen: Screen,
    /// The output of tasks, while it is followed.
    output: Option<RunOutput>,
    tick: Interval,
    /// When to request what tasks wait for.
    ask: Interval,
    /// The request for what tasks wait for, while there is one.
    asked: Option<Asked>,
    /// Whether the user has cancelled the run.
    is_cancelled: bool,
}

type Asked = Pin<Box<dyn Future<Output = Result<Run, kahn_client::Error>> + Send>>;

impl FollowState {
    fn new(follow: &Follow<'_>) -> Self {
        let clock = Clock::start();
        let now = Timestamp(clock.unix_micros());
        let screen = Screen::new(follow.is_json, follow.is_by_counts(), now);
        let style = Style::of(follow.is_json, false);
        let output = || RunOutput::follow(follow.client, follow.run, style);
        let mut tick = tokio::time::interval(REDRAW_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut ask = tokio::time::interval_at(Instant::now() + WAITS_UNTOLD, ASK_EVERY);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            clock,
            screen,
            output: follow.prints_output.then(output),
            tick,
            ask,
            asked: None,
            is_cancelled: false,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.unix_micros())
    }

    fn draw(&mut self) {
        let now = self.now();
        self.screen.draw(now);
    }

    /// Returns whether to request what tasks wait for.
    fn should_request_waits(&self) -> bool {
        self.asked.is_none() && self.screen.shows_waiting()
    }

    /// Prints a piece of output, or stops following it after the last one. A failure to read the
    /// output does not stop following the run.
    fn print(&mut self, piece: Option<Piece>) -> Result<(), Failure> {
        let Some(output) = &mut self.output else { return Ok(()) };
        let is_last = piece.is_none();
        let printed = self.screen.suspend(|| match piece {
            Some(piece) => output.print(piece),
            None => output.print_rest(),
        });
        if is_last || printed.is_err() {
            self.output = None;
        }
        match printed {
            Err(Failure::OutputClosed) => Err(Failure::OutputClosed),
            Err(_) => {
                self.screen.say("the output of tasks cannot be followed; see `kahn logs`");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

/// Waits for the next piece of output; `None` after the last one. Never completes if no output is
/// followed.
async fn next_piece(output: &mut Option<RunOutput>) -> Option<Piece> {
    match output {
        Some(output) => output.next().await,
        None => std::future::pending().await,
    }
}

/// Waits for the response to a request. Never completes without a request.
async fn answer<F: Future + Unpin>(asked: &mut Option<F>) -> F::Output {
    match asked {
        Some(asked) => asked.await,
        None => std::future::pending().await,
    }
}

/// Waits for the first shutdown request, or for the second if `is_second`.
async fn stop_requested(shutdown: Option<&Shutdown>, is_second: bool) {
    match shutdown {
        Some(shutdown) if is_second => shutdown.immediate_requested().await,
        Some(shutdown) => shutdown.drain_requested().await,
        None => std::future::pending().await,
    }
}

/// Returns the last lines of an output. If it is cut, the partial first line is omitted.
fn last_lines(bytes: &[u8], is_cut: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let skip = usize::from(is_cut && text.contains('\n'));
    let lines: Vec<&str> = text.lines().skip(skip).collect();
    let start = lines.len().saturating_sub(TAIL_LINES);
    lines[start..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_begins_with_a_whole_line() {
        assert_eq!(last_lines(b"half\none\ntwo\n", true), ["one", "two"]);
        assert_eq!(last_lines(b"one\ntwo", false), ["one", "two"]);
        let many: String = (0..30).map(|n| format!("{n}\n")).collect();
        assert_eq!(last_lines(many.as_bytes(), false).len(), TAIL_LINES);
        assert_eq!(last_lines(b"", false), Vec::<String>::new());
    }
}
