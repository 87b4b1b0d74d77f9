//! Spans of attempts and runs for an OpenTelemetry collector.
//!
//! A run is a trace with the id of the run, and one span covers it from its submission to its end.
//! Each attempt is a span within it. The ids are derived from those of the run, the task and the
//! attempt, so that a worker can pass the same ids to the task in `TRACEPARENT`.

use std::collections::{BTreeMap, BTreeSet};

use kahn_core::{Change, Run, State, attempt_interval};
use kahn_model::{AttemptId, Failure, RunId, RunState, TaskIx, Timestamp, WorkerId};
use kahn_runtime::telemetry::{AttributeValue, FinishedSpan, SpanStatus, Traces};

/// A running attempt.
#[derive(Debug)]
struct Attempt {
    number: u32,
    worker: WorkerId,
    leased_at: Timestamp,
    started_at: Option<Timestamp>,
}

/// Observes changes, and creates the spans of what has ended.
#[derive(Debug)]
pub(crate) struct Spans {
    traces: Traces,
    attempts: BTreeMap<(RunId, TaskIx), Attempt>,
    /// Runs that have not ended.
    runs: BTreeSet<RunId>,
}

impl Spans {
    /// Starts from the current state.
    pub(crate) fn new(traces: Traces, state: &State) -> Self {
        let mut spans = Self { traces, attempts: BTreeMap::new(), runs: BTreeSet::new() };
        if spans.traces.is_on() {
            for run in state.runs().filter(|run| !run.state.is_terminal()) {
                spans.runs.insert(run.id());
                spans.find_attempts(run, state);
            }
        }
        spans
    }

    fn find_attempts(&mut self, run: &Run, state: &State) {
        for task in run.dag.tasks() {
            if let Some(lease) = state.lease_of(run, task) {
                let attempt = Attempt {
                    number: lease.number,
                    worker: state.holder_of(lease).id.clone(),
                    leased_at: lease.granted_at,
                    started_at: lease.started_at,
                };
                self.attempts.insert((run.id(), task), attempt);
            }
        }
    }

    /// Returns the destination of the spans.
    pub(crate) fn traces(&self) -> &Traces {
        &self.traces
    }

    /// Returns the spans that end with these changes, which are already applied to `state`.
    pub(crate) fn observe(&mut self, changes: &[Change], state: &State) -> Vec<FinishedSpan> {
        if !self.traces.is_on() {
            return Vec::new();
        }
        let mut ended = Vec::new();
        for change in changes {
            ended.extend(self.follow(change, state));
        }
        for run in changes.iter().filter_map(Change::run).collect::<BTreeSet<_>>() {
            let known = state.run(run);
            if known.is_none_or(|run| run.state.is_terminal()) && self.runs.remove(&run) {
                ended.extend(known.map(run_span));
            }
        }
        ended
    }

    fn follow(&mut self, change: &Change, state: &State) -> Option<FinishedSpan> {
        match change {
            Change::RunSubmitted(submission) => {
                self.runs.insert(submission.run);
            }
            Change::RunRetried { run, .. } => {
                self.runs.insert(*run);
            }
            Change::LeaseGranted { run, task, number, worker, .. } => {
                let attempt = Attempt {
                    number: *number,
                    worker: worker.clone(),
                    leased_at: state.now(),
                    started_at: None,
                };
                self.attempts.insert((*run, *task), attempt);
            }
            Change::LeaseReturned { run, task } => {
                self.attempts.remove(&(*run, *task));
            }
            Change::AttemptStarted { run, task } => {
                if let Some(attempt) = self.attempts.get_mut(&(*run, *task)) {
                    attempt.started_at = Some(state.now());
                }
            }
            Change::AttemptFinished { run, task, outcome, usage, .. } => {
                let attempt = self.attempts.remove(&(*run, *task))?;
                let name = state.run(*run)?.dag.task_name(*task).to_owned();
                let elapsed = u64::try_from(usage.elapsed.as_micros()).unwrap_or(u64::MAX);
                let (started_at, ended_at) =
                    attempt_interval(attempt.leased_at, attempt.started_at, state.now(), elapsed);
                let id = AttemptId { run: *run, task: *task, number: attempt.number };
                return Some(FinishedSpan {
                    trace_id: *run.as_bytes(),
                    span_id: attempt_span_id(id),
                    parent_id: Some(run_span_id(*run)),
                    name: name.into(),
                    started_at_micros: started_at.0,
                    ended_at_micros: ended_at.0,
                    attributes: vec![
                        ("kahn.run", run.to_string().into()),
                        ("kahn.attempt", attempt.number.into()),
                        ("kahn.worker", attempt.worker.to_string().into()),
                        ("kahn.queued_us", micros(attempt.leased_at, attempt.started_at)),
                    ],
                    status: status(outcome.as_ref().err()),
                });
            }
            _ => {}
        }
        None
    }
}

fn micros(from: Timestamp, to: Option<Timestamp>) -> AttributeValue {
    let span = to.map_or(0, |to| to.0.saturating_sub(from.0));
    i64::try_from(span).unwrap_or(i64::MAX).into()
}

fn run_span(run: &Run) -> FinishedSpan {
    let is_well = run.state == RunState::Succeeded;
    FinishedSpan {
        trace_id: *run.id().as_bytes(),
        span_id: run_span_id(run.id()),
        parent_id: None,
        name: run.dag.name().to_string().into(),
        started_at_micros: run.submitted_at.0,
        ended_at_micros: run.finished_at.unwrap_or(run.submitted_at).0,
        attributes: vec![
            ("kahn.run", run.id().to_string().into()),
            ("kahn.namespace", run.submission.namespace.to_string().into()),
            ("kahn.tasks", u32::try_from(run.dag.n_tasks()).unwrap_or(u32::MAX).into()),
        ],
        status: if is_well { SpanStatus::Ok } else { SpanStatus::Error(run.state.to_string()) },
    }
}

fn status(failure: Option<&Failure>) -> SpanStatus {
    failure.map_or(SpanStatus::Ok, |failure| SpanStatus::Error(failure.cause.to_string()))
}

/// Returns the second half of the run's id. No attempt has the same one, since attempt numbers are
/// small.
fn run_span_id(run: RunId) -> [u8; 8] {
    let mut id = [0; 8];
    id.copy_from_slice(&run.as_bytes()[8..]);
    id
}

/// Returns the task followed by the attempt; the worker's `TRACEPARENT` contains the same id.
fn attempt_span_id(attempt: AttemptId) -> [u8; 8] {
    let mut id = [0; 8];
    id[..4].copy_from_slice(&attempt.task.0.to_be_bytes());
    id[4..].copy_from_slice(&attempt.number.to_be_bytes());
    id
}

#[cfg(test)]
mod tests {
    use kahn_core::testing::{World, dag, exit_code};
    use kahn_model::Outputs;
    use kahn_runtime::telemetry::{TelemetrySettings, Traces};

    use super::*;

    /// Observes the changes of the world since the last call.
    fn observe(spans: &mut Spans, world: &World, from: &mut usize) -> Vec<FinishedSpan> {
        let changes: Vec<Change> = world.log[*from..].iter().map(|(_, c)| c.clone()).collect();
        *from = world.log.len();
        spans.observe(&changes, world.core.state())
    }

    #[tokio::test]
    async fn every_attempt_is_a_span_within_that_of_its_run() {
        let settings = TelemetrySettings {
            // Nothing listens on this port; the test does not check that spans are sent.
            otlp_endpoint: Some("http://127.0.0.1:1".into()),
            ..TelemetrySettings::default()
        };
        let traces = Traces::start("kahn-coordinator", &settings).unwrap();
        let mut world = World::new();
        let mut spans = Spans::new(traces, world.core.state());
        let mut seen = 0;
        world.attach("w1", "cpu=1");
        let twice = dag().task("a").attempts(2, std::time::Duration::ZERO).build();
        let run = world.submit(&twice);
        let first = world.held("w1", run, "a").unwrap();
        world.start("w1", first);
        assert!(observe(&mut spans, &world, &mut seen).is_empty());

        world.wait(std::time::Duration::from_millis(7));
        world.finish_after("w1", first, Err(exit_code(3)), std::time::Duration::from_millis(7));
        let ended = observe(&mut spans, &world, &mut seen);
        assert_eq!(ended.len(), 1, "{ended:?}");
        assert_eq!(ended[0].span_id, [0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(ended[0].ended_at_micros - ended[0].started_at_micros, 7_000);
        assert_eq!(ended[0].status, SpanStatus::Error("exit code 3".into()));

        let second = world.held("w1", run, "a").unwrap();
        world.finish("w1", second, Ok(Outputs::default()));
        let ended = observe(&mut spans, &world, &mut seen);
        let [attempt, whole] = ended.as_slice() else { panic!("{ended:?}") };
        assert_eq!(attempt.span_id, [0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!((attempt.parent_id, whole.parent_id), (Some(whole.span_id), None));
        assert_eq!(attempt.trace_id, *run.as_bytes());
        assert_eq!(whole.status, SpanStatus::Ok);
    }

    #[test]
    fn without_a_collector_nothing_is_put_together() {
        let mut world = World::new();
        let mut spans = Spans::new(Traces::off(), world.core.state());
        world.attach("w1", "cpu=1");
        world.submit(&dag().task("a").build());
        world.finish_all();
        assert!(observe(&mut spans, &world, &mut 0).is_empty());
    }
}
