//! The fuzzing entry point for worker streams: arbitrary bytes must not cause a panic, an
//! inconsistent state or an unreadable log.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use kahn_core::log::Term;
use kahn_core::{Change, Command, Core, Event, SessionId, Settings, Snapshot, Step, Submission};
use kahn_model::{Dag, Namespace, Partition, RunId, TaskState, Timestamp, Uuid};
use kahn_proto::worker::{WorkerMessage, worker_message::Message};
use kahn_spec::Evaluator;
use kahn_store::codec;
use prost::Message as _;

use crate::evaluate;
use crate::grpc::wire;
use crate::inbox::Input;

/// The coordinator's term. The tokens of its leases consist of this and serials from 1.
const TERM: Term = Term { epoch: 1, nonce: 7 };
/// Maximum number of evaluations and passes after one event; more than any event can cause.
const ROUNDS_MAX: usize = 10_000;

/// A run that uses every feature affected by worker messages.
const FILE: &str = "
name: fuzz
policy: { max_parallel: 4 }
tasks:
  a: { noop: true }
  b:
    exec: [b]
    needs: [a]
    retry: { max_attempts: 3, backoff: { initial: 1s }, memory_multiplier: 2, timeout_multiplier: 2 }
    timeouts: { run: 1m, start: 10s, queue: 1h }
    resources: { cpu: 1, memory: 1Gi }
  c:
    exec: [c]
    needs: [{ task: a, when: started }]
    retry: { max_attempts: 5, crash_limit: 1 }
    concurrency: [k]
    circuit: { key: x, failures: 1, cool_down: 1m }
    labels: { prefer: { zone: [eu] } }
  d:
    exec: [d, '${{ tasks.b.outputs.n }}']
    needs: [b, { task: c, kind: optional, timeout: 1m }]
    if: tasks.b.outputs.n > 0
  e: { run: e, needs: [{ task: d, when: completed }], on_disconnect: stop }
";

static DAG: LazyLock<Arc<Dag>> = LazyLock::new(|| {
    let compiled = kahn_spec::compile(FILE, "fuzz", &BTreeMap::new());
    Arc::new(compiled.unwrap_or_else(|found| panic!("invariant: a valid file\n{found}")).dag)
});

static EVALUATOR: LazyLock<Evaluator> =
    LazyLock::new(|| Evaluator::start(1).expect("invariant: the system gives a thread"));

/// The state of the run after a worker stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOutcome {
    /// Number of messages that were readable.
    pub n_messages: usize,
    /// Number of tasks that succeeded.
    pub n_succeeded: usize,
    /// Number of changes that were made durable.
    pub n_changes: usize,
}

/// Decodes the bytes as length-delimited worker messages, and passes them to a core with a run of
/// five tasks. Each hello opens a new stream; each heartbeat advances the time by its number in
/// milliseconds, up to an hour.
///
/// # Panics
///
/// Panics if anything panics on the way, if the core is inconsistent afterwards, or if its log
/// cannot be read.
pub fn worker_stream(bytes: &[u8]) -> StreamOutcome {
    let mut world = World::new();
    let mut rest = bytes;
    let mut n_messages = 0;
    while !rest.is_empty() {
        let Ok(message) = WorkerMessage::decode_length_delimited(&mut rest) else { break };
        n_messages += 1;
        if let Err(unreadable) = world.on_message(message) {
            // The sender receives this text in a status.
            assert!(!unreadable.to_string().is_empty());
            world.detach();
        }
    }
    world.check();
    let is_well = |state: &TaskState| *state == TaskState::Succeeded;
    let states = world
        .core
        .state()
        .runs()
        .flat_map(|run| run.dag.tasks().map(|task| run.cell(task).state).collect::<Vec<_>>());
    let n_succeeded = states.filter(is_well).count();
    StreamOutcome { n_messages, n_succeeded, n_changes: world.log.len() }
}

fn settings() -> Settings {
    // Disables prefetching, which depends on the workers' pace and thus on volatile state.
    Settings { prefetch_max: 0, ..Settings::default() }
}

/// A core with virtual time and one stream at a time.
struct World {
    core: Core,
    now: Timestamp,
    log: Vec<(Timestamp, Change)>,
    session: SessionId,
    is_open: bool,
}

impl World {
    fn new() -> Self {
        let (core, now) = (Core::new(settings()), Timestamp(1_000_000_000));
        let session = SessionId(0);
        let mut world = Self { core, now, log: Vec::new(), session, is_open: false };
        let first = world.core.begin(now, TERM);
        world.process_step(first);
        world.handle_event(Event::Submitted(Arc::new(Submission {
            run: RunId::new(Uuid::nil()),
            namespace: Namespace::default(),
            dag: Arc::clone(&DAG),
            params: BTreeMap::new(),
            digest: [0; 16],
            labels: BTreeMap::new(),
        })));
        world
    }

    /// Handles one message like the session service and the driver do.
    fn on_message(&mut self, message: WorkerMessage) -> Result<(), wire::Unreadable> {
        if let Some(Message::Hello(hello)) = message.message {
            self.detach();
            self.session.0 += 1;
            let is_draining = hello.is_draining;
            let attachment = wire::attachment(self.session, hello)?;
            self.is_open = true;
            self.handle_event(Event::WorkerAttached(Box::new(attachment)));
            if is_draining {
                self.handle_event(Event::DrainStarted { session: self.session });
            }
            return Ok(());
        }
        let session = self.session;
        match wire::input(session, message)? {
            Input::Reports { reports, .. } => {
                for report in reports {
                    self.handle_event(Event::Reported { session, report: Box::new(report) });
                }
            }
            Input::Heartbeat { number, .. } => {
                self.handle_event(Event::Heartbeat { session });
                self.now = self.now + Duration::from_millis(number.min(3_600_000));
                self.handle_event(Event::DeadlineReached);
            }
            Input::Admission { admission, .. } => {
                self.handle_event(Event::AdmissionChanged { session, admission });
            }
            _ => self.handle_event(Event::DrainStarted { session }),
        }
        Ok(())
    }

    fn detach(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.handle_event(Event::WorkerDetached { session: self.session });
        }
    }

    /// Handles an event, which may be refused, and places tasks.
    fn handle_event(&mut self, event: Event) {
        if let Ok(step) = self.core.handle(self.now, event) {
            self.process_step(step);
        }
        for _ in 0..ROUNDS_MAX {
            let step = self.core.place(self.now);
            self.process_step(step);
            if !self.core.has_more_to_place() {
                return;
            }
        }
        panic!("placing does not come to rest");
    }

    /// Makes all changes durable and answers evaluations immediately.
    fn process_step(&mut self, step: Step) {
        let mut steps = vec![step];
        for _ in 0..ROUNDS_MAX {
            let Some(Step { changes, commands }) = steps.pop() else { return };
            let at = self.core.state().now();
            self.log.extend(changes.into_iter().map(|change| (at, change)));
            for command in commands {
                let Command::Evaluate { run, task } = command else { continue };
                let Some(request) = evaluate::request(&self.core, run, task) else { continue };
                let answer = evaluate::answer(&EVALUATOR, request);
                assert!(!has_panicked(&answer), "an expression panicked: {answer:?}");
                steps.extend(self.core.handle(self.now, answer));
            }
        }
        panic!("evaluating does not come to rest");
    }

    /// Checks that the state is consistent and that a takeover would recover the same state.
    fn check(&self) {
        let findings = self.core.audit();
        assert!(findings.is_empty(), "{findings:#?}");
        let encoded = codec::encode_batch(&self.log);
        let blobs: BTreeMap<&str, _> =
            encoded.blobs.iter().map(|(name, bytes)| (name.as_str(), bytes)).collect();
        let read = codec::decode_batch(&encoded.payload, |name| {
            let found = blobs.get(name).copied().cloned();
            found.ok_or_else(|| codec::CodecError::MissingBlob(name.to_owned()))
        });
        assert_eq!(read.as_ref(), Ok(&self.log), "the log is not what was written");
        let mut after = Core::new(settings());
        for (at, change) in read.iter().flatten() {
            after.replay(*at, change);
        }
        assert_eq!(
            durable_state(&after),
            durable_state(&self.core),
            "a takeover would see another state"
        );
    }
}

/// Returns the durable state of a core, without the time of the latest event and the ages.
fn durable_state(core: &Core) -> Snapshot {
    let mut snapshot = core.state().snapshot(Partition(0));
    snapshot.at = Timestamp::ZERO;
    for cell in snapshot.runs.iter_mut().flat_map(|run| &mut run.cells) {
        if cell.state == TaskState::Ready {
            cell.age = 0;
        }
    }
    snapshot
}

/// The evaluator survives a panic and reports it.
fn has_panicked(answer: &Event) -> bool {
    let Event::Evaluated { outcome: Err(failure), .. } = answer else { return false };
    failure.message.contains("panicked")
}
