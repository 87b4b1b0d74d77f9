//! The coordinator's state machine with workers that do exactly what is expected of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use kahn_core::log::Term;
use kahn_core::{
    Attachment, Command, Core, Event, Grant, Refusal, ReportKind, SessionId, Settings, Spreading,
    Step, Submission, WorkerReport,
};
use kahn_model::{
    ActionKind, AttemptId, BootId, CauseKind, Dag, Failure as TaskFailure, Labels, Namespace,
    Outputs, RunId, TaskIx, Timestamp, Token, Usage, Uuid,
};

use super::{Cluster, Course, Placed, Policy};

/// When the run begins; any time will do.
const BEGIN: Timestamp = Timestamp(1_000_000_000);
/// No imagined worker falls silent.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// An attempt under way.
#[derive(Debug)]
struct Attempt {
    token: Token,
    worker: u32,
    started_at: Timestamp,
}

/// A run on imagined workers.
#[derive(Debug)]
pub(super) struct Simulation {
    core: Core,
    dag: Arc<Dag>,
    run: RunId,
    took: Vec<Duration>,
    now: Timestamp,
    running: BTreeMap<AttemptId, Attempt>,
    ends: BinaryHeap<Reverse<(Timestamp, AttemptId)>>,
    commands: Vec<Command>,
    placed: Vec<Placed>,
}

impl Simulation {
    /// A run of `dag` that has just been submitted to `cluster`.
    pub(super) fn new(
        dag: &Dag,
        cluster: &Cluster,
        took: Vec<Duration>,
        labels: &Labels,
    ) -> Result<Self, Refusal> {
        let mut core = Core::new(settings(cluster));
        let first = core.begin(BEGIN, Term { epoch: 1, nonce: 1 });
        let run = RunId::new(Uuid::from_u128(1));
        let dag = Arc::new(dag.clone());
        let mut simulation = Self {
            core,
            dag: Arc::clone(&dag),
            run,
            took,
            now: BEGIN,
            running: BTreeMap::new(),
            ends: BinaryHeap::new(),
            commands: first.commands,
            placed: Vec::new(),
        };
        for worker in 0..cluster.workers {
            let attachment = attachment(worker, cluster, labels);
            simulation.handle(Event::WorkerAttached(Box::new(attachment)))?;
        }
        let submission = Submission {
            run,
            namespace: Namespace::default(),
            dag,
            params: BTreeMap::new(),
            digest: [0; 16],
            labels: BTreeMap::new(),
        };
        simulation.handle(Event::Submitted(Arc::new(submission)))?;
        Ok(simulation)
    }

    /// Lets the run go on until it has ended, or until nothing more will happen.
    pub(super) fn finish(mut self) -> Result<Course, Refusal> {
        loop {
            self.settle()?;
            let next_end = self.ends.peek().map(|Reverse((at, _))| *at);
            let next = match (next_end, self.core.next_deadline()) {
                (Some(end), Some(deadline)) => end.min(deadline),
                (Some(end), None) => end,
                (None, Some(deadline)) => deadline,
                (None, None) => break,
            };
            if self.has_ended() {
                break;
            }
            self.now = self.now.max(next);
            match next_end {
                Some(end) if end <= self.now => self.end_attempts()?,
                _ => self.handle(Event::DeadlineReached)?,
            }
        }
        self.placed.sort_unstable();
        let makespan = self.placed.iter().map(|placed| placed.finish).max().unwrap_or_default();
        Ok(Course { makespan, placed: self.placed })
    }

    fn has_ended(&self) -> bool {
        self.core.state().run(self.run).is_none_or(|run| run.state.is_terminal())
    }

    fn handle(&mut self, event: Event) -> Result<(), Refusal> {
        let step = self.core.handle(self.now, event)?;
        self.commands.extend(step.commands);
        Ok(())
    }

    /// Fills all the room there is, at this moment.
    fn settle(&mut self) -> Result<(), Refusal> {
        loop {
            let Step { commands, .. } = self.core.place(self.now);
            self.commands.extend(commands);
            if self.commands.is_empty() {
                return Ok(());
            }
            for command in std::mem::take(&mut self.commands) {
                self.carry_out(command)?;
            }
        }
    }

    fn carry_out(&mut self, command: Command) -> Result<(), Refusal> {
        match command {
            Command::Grant { session, grant } => self.start(session, &grant),
            Command::Stop { session, attempt, token, .. } => self.stop(session, attempt, token),
            Command::Recall { session, attempt, token } => {
                self.report(session, attempt, token, ReportKind::Returned)
            }
            // Every condition is taken to hold.
            Command::Evaluate { run, task } => {
                let outcome = Ok(Some(Arc::clone(self.dag.work(task))));
                self.handle(Event::Evaluated { run, task, outcome })
            }
            Command::Acknowledge { .. }
            | Command::Welcome { .. }
            | Command::Disconnect { .. }
            | Command::Drain { .. }
            | Command::Notify { .. } => Ok(()),
        }
    }

    fn start(&mut self, session: SessionId, grant: &Grant) -> Result<(), Refusal> {
        let (attempt, token) = (grant.attempt, grant.token);
        let worker = u32::try_from(session.0).unwrap_or(u32::MAX);
        self.running.insert(attempt, Attempt { token, worker, started_at: self.now });
        let end = self.now + self.took[attempt.task.index()];
        self.ends.push(Reverse((end, attempt)));
        self.report(session, attempt, token, ReportKind::Started)
    }

    fn stop(
        &mut self,
        session: SessionId,
        attempt: AttemptId,
        token: Token,
    ) -> Result<(), Refusal> {
        self.ends.retain(|Reverse((_, other))| *other != attempt);
        self.note_end(attempt);
        let outcome = Err(TaskFailure::of(CauseKind::Cancelled));
        let kind = ReportKind::Finished { outcome, usage: Usage::default() };
        self.report(session, attempt, token, kind)
    }

    /// Ends all attempts whose time has come.
    fn end_attempts(&mut self) -> Result<(), Refusal> {
        while let Some(Reverse((at, attempt))) = self.ends.peek().copied() {
            if self.now < at {
                break;
            }
            self.ends.pop();
            let Some((worker, token)) = self.note_end(attempt) else { continue };
            let usage = Usage { elapsed: self.took[attempt.task.index()], ..Usage::default() };
            let kind = ReportKind::Finished { outcome: Ok(Outputs::default()), usage };
            self.report(SessionId(u64::from(worker)), attempt, token, kind)?;
        }
        Ok(())
    }

    fn note_end(&mut self, attempt: AttemptId) -> Option<(u32, Token)> {
        let ended = self.running.remove(&attempt)?;
        self.placed.push(Placed {
            start: ended.started_at.since(BEGIN),
            task: attempt.task,
            worker: ended.worker,
            finish: self.now.since(BEGIN),
        });
        Some((ended.worker, ended.token))
    }

    fn report(
        &mut self,
        session: SessionId,
        attempt: AttemptId,
        token: Token,
        kind: ReportKind,
    ) -> Result<(), Refusal> {
        let report = Box::new(WorkerReport { attempt, token, kind });
        self.handle(Event::Reported { session, report })
    }
}

fn settings(cluster: &Cluster) -> Settings {
    Settings {
        suspect_after: FOR_EVER,
        lease_ttl: FOR_EVER,
        // Nothing travels, so nothing has to be there ahead of time.
        prefetch_span: Duration::ZERO,
        prefetch_max: 0,
        spreading: match cluster.policy {
            Policy::Spread => Spreading::Spread,
            Policy::Pack => Spreading::Pack,
        },
        ..Settings::default()
    }
}

fn attachment(worker: u32, cluster: &Cluster, labels: &Labels) -> Attachment {
    Attachment {
        session: SessionId(u64::from(worker)),
        worker: format!("w{worker:05}").parse().expect("invariant: a valid name"),
        boot: BootId(1),
        capacity: cluster.capacity.clone(),
        leases_max: u32::MAX,
        labels: labels.clone(),
        executors: ActionKind::ALL.to_vec(),
        held: Vec::new(),
        unacknowledged: Vec::new(),
    }
}

/// Labels by which a worker satisfies what tasks ask for, as far as that goes.
pub(super) fn labels(dag: &Dag) -> Labels {
    let mut labels = Labels::new();
    for rule in dag.profiles().iter().flat_map(|profile| &profile.selector.required) {
        let (key, value) = match rule {
            kahn_model::LabelRule::In { key, values } => (key, values.first().cloned()),
            kahn_model::LabelRule::Exists { key } => (key, Some(String::new())),
            kahn_model::LabelRule::NotIn { .. } | kahn_model::LabelRule::Absent { .. } => continue,
        };
        labels.entry(key.clone()).or_insert(value.unwrap_or_default());
    }
    labels
}

/// The first task that no imagined worker can take, and why.
pub(super) fn infeasible(
    dag: &Dag,
    cluster: &Cluster,
    labels: &Labels,
) -> Option<(TaskIx, String)> {
    dag.tasks().find_map(|task| {
        let profile = dag.profile(task);
        if let Some((resource, _, _)) = profile.resources.shortage(&cluster.capacity) {
            let (wanted, found) = (&profile.resources, &cluster.named);
            let why = format!("asks for {wanted}, and a worker has {found}: too little {resource}");
            return Some((task, why));
        }
        let rules = &profile.selector.required;
        let broken = rules.iter().find(|rule| !rule.matches(labels))?;
        Some((task, format!("asks for a worker where {broken}, unlike other tasks")))
    })
}
