//! Random histories: DAGs and the events of their runs. A plan refers to everything by numbers
//! modulo the number of existing items, so that it stays valid if any part of it is removed.

use std::sync::Arc;
use std::time::Duration;

use kahn_core::testing::{World, dag, exit_code, submission};
use kahn_core::{
    ArchiveRef, Event, ReportKind, RetryScope, RunSnapshot, Settings, Spreading, WorkerReport,
};
use kahn_model::{
    AttemptId, Cause, CauseKind, Dag, DependencyKind, Failure, Outputs, RunId, Share, TaskIx,
    Trigger, Uuid, Value, When,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// A dependency: the earlier task, the required state, the kind, and the timeout.
type NeedPlan = (usize, usize, usize, Option<u64>);

#[derive(Clone, Debug)]
pub(crate) struct TaskPlan {
    needs: Vec<NeedPlan>,
    trigger: usize,
    has_condition: bool,
    resources: usize,
    key_limit: Option<u32>,
    circuit: Option<u32>,
    attempts: u32,
    wait: u64,
    crash_limit: u32,
    /// Queue, start and run timeouts, in seconds.
    timeouts: (Option<u64>, Option<u64>, Option<u64>),
    priority: i32,
    estimate: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct DagPlan {
    tasks: Vec<TaskPlan>,
    on_failure: usize,
    max_parallel: Option<u32>,
    deadline: Option<u64>,
    priority: i32,
    namespace: usize,
}

/// An act of a plan.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Submit(usize),
    SubmitAgain {
        run: usize,
        is_same: bool,
    },
    Start(usize, usize),
    Finish(usize, usize, usize),
    GiveBack(usize, usize),
    /// An earlier report is sent again, possibly by another worker.
    Repeat {
        report: usize,
        worker: usize,
    },
    /// A false report.
    Lie {
        worker: usize,
        run: usize,
        task: u32,
        serial: u64,
        kind: usize,
    },
    Evaluate(usize, usize),
    /// The result of an evaluation that was not requested.
    EvaluateUnasked {
        run: usize,
        task: u32,
    },
    Detach(usize),
    Reattach(usize),
    Reboot(usize),
    Deafen(usize),
    Silence(usize),
    Cordon(usize, bool),
    /// A worker accepts this many thousandths of its capacity, and reports it if it is attached.
    Accept(usize, u32),
    Drain(usize),
    DrainOwn(usize),
    Cancel(usize),
    Pause(usize),
    Resume(usize),
    Retry(usize, usize, u32),
    Expire(usize),
    /// A run was stored; this many records of its history are not in it.
    Store(usize, usize),
    /// The run of an earlier store is read again.
    Fetch(usize),
    Wait(u64),
    /// The deadline event, sent early.
    Wake,
    TakeOver(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) dags: Vec<DagPlan>,
    pub(crate) acts: Vec<Act>,
    pub(crate) is_packed: bool,
    pub(crate) partitions: u16,
}

const RESOURCES: [&str; 6] = ["", "cpu=1", "cpu=0.5 memory=1Gi", "cpu=2", "memory=2Gi", "gpu=1"];
const NAMESPACES: [&str; 2] = ["default", "other"];
pub(crate) const WORKERS: [(&str, &str); 3] =
    [("w1", "cpu=2 memory=4Gi"), ("w2", "cpu=1 memory=2Gi"), ("w3", "cpu=4 memory=4Gi")];

fn task_plan() -> impl Strategy<Value = TaskPlan> {
    let need = (
        any::<usize>(),
        prop_oneof![4 => Just(0usize), 4 => 0..5usize],
        prop_oneof![2 => Just(0usize), 1 => 0..3usize],
        proptest::option::weighted(0.2, 1..20u64),
    );
    let rules = (
        prop_oneof![3 => Just(0usize), 4 => 0..5usize],
        proptest::bool::weighted(0.2),
        0..RESOURCES.len(),
        proptest::option::weighted(0.2, 1..3u32),
        proptest::option::weighted(0.2, 1..3u32),
    );
    let retry = (1..4u32, 0..4u64, 1..4u32);
    let limit = || proptest::option::weighted(0.1, 1..30u64);
    let order = (-1..2i32, 0..4u64);
    (vec(need, 0..4), rules, retry, (limit(), limit(), limit()), order).prop_map(
        |(needs, rules, retry, timeouts, order)| TaskPlan {
            needs,
            trigger: rules.0,
            has_condition: rules.1,
            resources: rules.2,
            key_limit: rules.3,
            circuit: rules.4,
            attempts: retry.0,
            wait: retry.1,
            crash_limit: retry.2,
            timeouts,
            priority: order.0,
            estimate: order.1,
        },
    )
}

fn dag_plan() -> impl Strategy<Value = DagPlan> {
    (
        vec(task_plan(), 1..9),
        0..4usize,
        proptest::option::weighted(0.3, 1..3u32),
        proptest::option::weighted(0.1, 5..100u64),
        -1..2i32,
        0..NAMESPACES.len(),
    )
        .prop_map(|(tasks, on_failure, max_parallel, deadline, priority, namespace)| DagPlan {
            tasks,
            on_failure,
            max_parallel,
            deadline,
            priority,
            namespace,
        })
}

fn act() -> impl Strategy<Value = Act> {
    let n = || 0..64usize;
    prop_oneof![
        6 => n().prop_map(Act::Submit),
        1 => (n(), any::<bool>()).prop_map(|(run, is_same)| Act::SubmitAgain { run, is_same }),
        14 => (n(), n()).prop_map(|(w, h)| Act::Start(w, h)),
        20 => (n(), n(), 0..12usize).prop_map(|(w, h, o)| Act::Finish(w, h, o)),
        2 => (n(), n()).prop_map(|(w, h)| Act::GiveBack(w, h)),
        4 => (n(), n()).prop_map(|(report, worker)| Act::Repeat { report, worker }),
        2 => (n(), n(), 0..9u32, 0..40u64, 0..4usize).prop_map(
            |(worker, run, task, serial, kind)| Act::Lie { worker, run, task, serial, kind }
        ),
        8 => (n(), 0..4usize).prop_map(|(e, verdict)| Act::Evaluate(e, verdict)),
        1 => (n(), 0..9u32).prop_map(|(run, task)| Act::EvaluateUnasked { run, task }),
        2 => n().prop_map(Act::Detach),
        4 => n().prop_map(Act::Reattach),
        2 => n().prop_map(Act::Reboot),
        1 => n().prop_map(Act::Deafen),
        1 => n().prop_map(Act::Silence),
        1 => (n(), any::<bool>()).prop_map(|(w, on)| Act::Cordon(w, on)),
        6 => (n(), 1..1500u32).prop_map(|(w, share)| Act::Accept(w, share.min(1000))),
        1 => n().prop_map(Act::Drain),
        1 => n().prop_map(Act::DrainOwn),
        2 => n().prop_map(Act::Cancel),
        2 => n().prop_map(Act::Pause),
        2 => n().prop_map(Act::Resume),
        4 => (n(), 0..3usize, 0..9u32).prop_map(|(r, s, t)| Act::Retry(r, s, t)),
        1 => n().prop_map(Act::Expire),
        4 => (n(), prop_oneof![6 => Just(0usize), 1 => 1..3usize])
            .prop_map(|(run, n_missing)| Act::Store(run, n_missing)),
        2 => n().prop_map(Act::Fetch),
        8 => prop_oneof![0..3_000u64, 0..20_000u64, 0..200_000u64].prop_map(Act::Wait),
        1 => Just(Act::Wake),
        1 => prop_oneof![Just(0u64), 0..100_000u64].prop_map(Act::TakeOver),
    ]
}

/// Generates histories of up to `acts_max` events.
pub(crate) fn plan(acts_max: usize) -> impl Strategy<Value = Plan> {
    (vec(dag_plan(), 1..4), vec(act(), 0..acts_max), any::<bool>(), 1..4u16)
        .prop_map(|(dags, acts, is_packed, partitions)| Plan { dags, acts, is_packed, partitions })
}

impl DagPlan {
    pub(crate) fn build(&self) -> Arc<Dag> {
        let mut script = dag().run_priority(self.priority);
        script = match self.on_failure {
            0 | 1 => script,
            2 => script.fail_fast(),
            _ => script.max_failures(2),
        };
        if let Some(n) = self.max_parallel {
            script = script.max_parallel(n);
        }
        if let Some(seconds) = self.deadline {
            script = script.run_deadline(Duration::from_secs(seconds));
        }
        for (at, task) in self.tasks.iter().enumerate() {
            script = script.task(&format!("t{at}"));
            let mut seen = Vec::new();
            for (dependency, when, kind, timeout) in &task.needs {
                if at == 0 || seen.contains(&(dependency % at)) {
                    continue;
                }
                seen.push(dependency % at);
                let dependency = format!("t{}", dependency % at);
                script = script.needs(&dependency, When::ALL[*when], DependencyKind::ALL[*kind]);
                if let Some(seconds) = timeout {
                    script = script.within(Duration::from_secs(*seconds));
                }
            }
            script = task.rules(script);
        }
        script.build()
    }
}

impl TaskPlan {
    fn rules(&self, mut script: kahn_core::testing::DagScript) -> kahn_core::testing::DagScript {
        script = script
            .trigger(Trigger::ALL[self.trigger])
            .resources(RESOURCES[self.resources])
            .attempts(self.attempts, Duration::from_secs(self.wait))
            .crash_limit(self.crash_limit)
            .memory_factor(1500)
            .priority(self.priority);
        if self.has_condition {
            script = script.condition("params.x");
        }
        if let Some(limit) = self.key_limit {
            script = script.key("db", limit);
        }
        if let Some(failures) = self.circuit {
            script = script.circuit("api", failures, Duration::from_secs(7));
        }
        if self.estimate > 0 {
            script = script.estimate(Duration::from_secs(self.estimate));
        }
        let (queue, start, run) = self.timeouts;
        if let Some(seconds) = queue {
            script = script.queue_timeout(Duration::from_secs(seconds));
        }
        if let Some(seconds) = start {
            script = script.start_timeout(Duration::from_secs(seconds));
        }
        if let Some(seconds) = run {
            script = script.run_timeout(Duration::from_secs(seconds));
        }
        script
    }
}

/// A plan that is being executed.
#[derive(Debug)]
pub(crate) struct Play {
    pub(crate) world: World,
    dags: Vec<(Arc<Dag>, &'static str)>,
    runs: Vec<RunId>,
    sent: Vec<WorkerReport>,
    /// Runs as they were stored.
    stored: Vec<Arc<RunSnapshot>>,
}

impl Play {
    pub(crate) fn new(plan: &Plan) -> Self {
        let spreading = if plan.is_packed { Spreading::Pack } else { Spreading::Spread };
        let settings = Settings { spreading, partitions: plan.partitions, ..Settings::default() };
        let mut world = World::with(settings);
        for (name, capacity) in WORKERS {
            world.attach_with(name, capacity, &[], 6);
        }
        let dags = plan.dags.iter().map(|dag| (dag.build(), NAMESPACES[dag.namespace])).collect();
        Self { world, dags, runs: Vec::new(), sent: Vec::new(), stored: Vec::new() }
    }

    /// Returns the event of an act, if it is possible now, after updating the worker. Acts that
    /// consist of several events are executed directly.
    pub(crate) fn event(&mut self, act: &Act) -> Option<Event> {
        match act {
            Act::Submit(dag) => {
                let (dag, namespace) = self.dags[dag % self.dags.len()].clone();
                let n = u128::try_from(self.runs.len()).unwrap() + 1;
                let submission = Arc::new(submission(n, namespace, &dag));
                self.runs.push(submission.run);
                Some(Event::Submitted(submission))
            }
            Act::SubmitAgain { run, is_same } => {
                let run = self.run(*run)?;
                let mut again = (*self.world.core.state().run(run)?.submission).clone();
                again.digest[0] ^= u8::from(!is_same);
                Some(Event::Submitted(Arc::new(again)))
            }
            Act::Start(worker, held) => self.report(*worker, *held, ReportKind::Started),
            Act::Finish(worker, held, outcome) => {
                let usage =
                    kahn_model::Usage { elapsed: Duration::from_millis(50), ..Default::default() };
                let outcome = outcome_of(*outcome);
                self.report(*worker, *held, ReportKind::Finished { outcome, usage })
            }
            Act::GiveBack(worker, held) => self.report(*worker, *held, ReportKind::Returned),
            Act::Repeat { report, worker } => {
                let report = self.sent.get(report % self.sent.len().max(1))?.clone();
                self.from(*worker, report)
            }
            Act::Lie { worker, run, task, serial, kind } => {
                let run = self.run(*run)?;
                let token = kahn_model::Token { epoch: 1, serial: *serial, nonce: 7 };
                let attempt = AttemptId { run, task: TaskIx(*task), number: 1 };
                self.from(*worker, WorkerReport { attempt, token, kind: kind_of(*kind) })
            }
            Act::Evaluate(question, verdict) => {
                let n = self.world.evaluations.len();
                let (run, task) = (n > 0).then(|| self.world.evaluations.remove(question % n))?;
                Some(Event::Evaluated { run, task, outcome: verdict_of(*verdict) })
            }
            Act::EvaluateUnasked { run, task } => {
                let run = self.run(*run)?;
                Some(Event::Evaluated { run, task: TaskIx(*task), outcome: Ok(None) })
            }
            _ => self.steer(act),
        }
    }

    fn steer(&mut self, act: &Act) -> Option<Event> {
        match act {
            Act::Detach(worker) => {
                let session = self.worker(*worker).session.take()?;
                Some(Event::WorkerDetached { session })
            }
            Act::Accept(worker, permille) => {
                let fake = self.worker(*worker);
                fake.admission.share = Share::from_permille(*permille).unwrap();
                let admission = fake.admission;
                fake.session.map(|session| Event::AdmissionChanged { session, admission })
            }
            Act::Cordon(worker, is_cordoned) => Some(Event::CordonRequested {
                worker: self.worker(*worker).id.clone(),
                is_cordoned: *is_cordoned,
            }),
            Act::Drain(worker) => {
                Some(Event::DrainRequested { worker: self.worker(*worker).id.clone() })
            }
            Act::DrainOwn(worker) => {
                let session = self.worker(*worker).session?;
                Some(Event::DrainStarted { session })
            }
            Act::Cancel(run) => {
                Some(Event::CancelRequested { run: self.run(*run)?, reason: "enough".into() })
            }
            Act::Pause(run) => Some(Event::PauseRequested { run: self.run(*run)? }),
            Act::Resume(run) => Some(Event::ResumeRequested { run: self.run(*run)? }),
            Act::Retry(run, scope, task) => {
                let scope = match scope {
                    0 => RetryScope::Failed,
                    1 => RetryScope::From(vec![TaskIx(*task)]),
                    _ => RetryScope::Only(vec![TaskIx(*task)]),
                };
                Some(Event::RetryRequested { run: self.run(*run)?, scope })
            }
            Act::Expire(run) => Some(Event::RunExpired { run: self.run(*run)? }),
            Act::Store(run, n_missing) => self.store(*run, *n_missing),
            Act::Fetch(stored) => {
                let n = self.stored.len();
                (n > 0).then(|| Event::RunFetched(Arc::clone(&self.stored[stored % n])))
            }
            Act::Wake => Some(Event::DeadlineReached),
            _ => {
                self.disturb(act);
                None
            }
        }
    }

    fn disturb(&mut self, act: &Act) {
        let name = |worker: &usize| WORKERS[worker % WORKERS.len()].0;
        match act {
            Act::Reattach(worker) => self.world.reattach(name(worker)),
            Act::Reboot(worker) => self.world.reboot(name(worker)),
            Act::Deafen(worker) => self.worker(*worker).is_deaf = true,
            Act::Silence(worker) => self.worker(*worker).is_silent = true,
            Act::Wait(millis) => self.world.wait(Duration::from_millis(*millis)),
            Act::TakeOver(millis) => self.world.take_over(Duration::from_millis(*millis)),
            _ => {}
        }
    }

    fn worker(&mut self, worker: usize) -> &mut kahn_core::testing::FakeWorker {
        self.world.worker_mut(WORKERS[worker % WORKERS.len()].0)
    }

    fn run(&self, run: usize) -> Option<RunId> {
        match self.runs.len() {
            0 => None,
            n if run % (n + 1) == n => Some(RunId::new(Uuid::from_u128(9999))),
            n => Some(self.runs[run % (n + 1)]),
        }
    }

    fn store(&mut self, run: usize, n_missing: usize) -> Option<Event> {
        let run = self.run(run)?;
        let state = self.world.core.state();
        let snapshot = state.snapshot_run(state.run(run)?);
        let n_records = snapshot.history.len().saturating_sub(n_missing);
        let finished_at = snapshot.finished_at;
        let bytes = u64::try_from(snapshot.history.len()).unwrap();
        self.stored.push(Arc::new(snapshot));
        let archive = ArchiveRef { bytes, digest: [1; 16] };
        Some(Event::RunStored { run, n_records, finished_at, archive })
    }

    fn report(&mut self, worker: usize, held: usize, kind: ReportKind) -> Option<Event> {
        let fake = self.worker(worker);
        let n = fake.held.len();
        let attempt = (n > 0).then(|| *fake.held.keys().nth(held % n).unwrap())?;
        let token = fake.held[&attempt].token;
        let is_final = !matches!(kind, ReportKind::Started);
        if kind == ReportKind::Returned && fake.held[&attempt].is_started {
            return None;
        }
        let report = WorkerReport { attempt, token, kind };
        if is_final {
            fake.held.remove(&attempt);
            fake.unacknowledged.push(report.clone());
        } else if let Some(holding) = fake.held.get_mut(&attempt) {
            holding.is_started = true;
        }
        self.sent.push(report.clone());
        self.from(worker, report)
    }

    fn from(&mut self, worker: usize, report: WorkerReport) -> Option<Event> {
        let session = self.worker(worker).session?;
        Some(Event::Reported { session, report: Box::new(report) })
    }
}

fn outcome_of(n: usize) -> Result<Outputs, Failure> {
    match n {
        0..=6 => Ok(Outputs::default()),
        7 => Ok(Outputs([("x".into(), Value::from_json("1"))].into())),
        8 => Err(Failure::of(CauseKind::OutOfMemory)),
        9 => Err(Failure::new(Cause::signal(9), "killed")),
        10 => Err(Failure::of(CauseKind::Cancelled)),
        _ => Err(exit_code(1)),
    }
}

fn kind_of(n: usize) -> ReportKind {
    match n {
        0 => ReportKind::Started,
        1 => ReportKind::Returned,
        n => ReportKind::Finished { outcome: outcome_of(n * 3), usage: Default::default() },
    }
}

fn verdict_of(n: usize) -> Result<Option<Arc<kahn_model::Work>>, Failure> {
    let echo = kahn_model::Action::Exec { argv: vec![kahn_model::Text::new("echo")] };
    match n {
        0 => Ok(None),
        1 => Ok(Some(Arc::new(kahn_model::Work::new(echo)))),
        2 => Err(Failure::of(CauseKind::Condition)),
        _ => Err(Failure::of(CauseKind::Expression)),
    }
}

/// Ends all faults: workers are attached and take leases, and no run is paused.
pub(crate) fn heal(world: &mut World) {
    for (name, _) in WORKERS {
        let worker = world.worker_mut(name).id.clone();
        let is_draining = world.core.state().worker(&worker).is_some_and(|w| w.is_draining);
        if world.worker_mut(name).is_draining || is_draining {
            world.reboot(name);
        } else {
            world.reattach(name);
        }
        world.accept(Event::CordonRequested { worker, is_cordoned: false });
    }
    let runs: Vec<RunId> = world.core.state().runs().map(kahn_core::Run::id).collect();
    for run in runs {
        // Refused for runs that are not paused.
        let _ = world.step(Event::ResumeRequested { run });
    }
}
