//! Benchmarks of transitions, submissions and scheduling passes, and how they scale.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kahn_core::log::Term;
use kahn_core::testing::submission;
use kahn_core::{
    Attachment, Command, Core, Event, ReportKind, SessionId, Settings, Step, WorkerReport,
};
use kahn_model::{
    Action, ActionKind, AttemptId, BootId, Dag, DagBuilder, Labels, Name, NewTask, Outputs,
    Resources, RunPolicy, TaskIx, Timestamp, Token, Usage, Work,
};

const NOW: Timestamp = Timestamp(1_000_000);

/// Builds `n` tasks in layers of `width`, each with up to `fan_in` dependencies on the previous
/// layer.
fn layers(n: usize, width: usize, fan_in: usize, resources: &[&str]) -> Arc<Dag> {
    let mut builder = DagBuilder::new(Name::new("bench").unwrap(), RunPolicy::default());
    for at in 0..n {
        let name = Name::new(&format!("task-{at:07}")).unwrap();
        let mut task = NewTask::new(name, Work::new(Action::Noop));
        task.profile.resources = resources[at % resources.len()].parse().unwrap();
        builder.task(task).unwrap();
    }
    for at in width..n {
        let start = (at / width - 1) * width;
        for k in 0..fan_in.min(width) {
            let dependency = start + (at + k * 7) % width;
            builder.after(TaskIx::from_index(at), TaskIx::from_index(dependency));
        }
    }
    Arc::new(builder.build().unwrap())
}

fn core(settings: Settings) -> Core {
    let mut core = Core::new(settings);
    core.begin(NOW, Term { epoch: 1, nonce: 1 });
    core
}

fn attach(core: &mut Core, n: u64, capacity: &Resources, leases_max: u32) {
    let attachment = Attachment {
        session: SessionId(n),
        worker: format!("worker-{n}").parse().unwrap(),
        boot: BootId(n),
        capacity: capacity.clone(),
        leases_max,
        labels: Labels::new(),
        executors: ActionKind::ALL.to_vec(),
        admission: kahn_model::Admission::default(),
        held: Vec::new(),
        unacknowledged: Vec::new(),
    };
    core.handle(NOW, Event::WorkerAttached(Box::new(attachment))).unwrap();
}

fn submit(core: &mut Core, n: u128, namespace: &str, dag: &Arc<Dag>) {
    let event = Event::Submitted(Arc::new(submission(n, namespace, dag)));
    black_box(core.handle(NOW, event).unwrap());
}

/// A minimal driver: passes reports to the core and collects grants.
struct Drive {
    core: Core,
    held: VecDeque<(SessionId, AttemptId, Token)>,
}

impl Drive {
    fn new(core: Core) -> Self {
        Self { core, held: VecDeque::new() }
    }

    fn take(&mut self, step: Step) {
        for command in step.commands {
            if let Command::Grant { session, grant } = command {
                self.held.push_back((session, grant.attempt, grant.token));
            }
        }
    }

    fn place(&mut self) {
        let step = self.core.place(NOW);
        self.take(step);
    }

    /// Finishes up to `batch` attempts at a time and places tasks, until `n` have finished or none
    /// is left.
    fn finish(&mut self, n: usize, batch: usize) -> usize {
        let mut done = 0;
        while done < n && !self.held.is_empty() {
            for _ in 0..batch.min(n - done) {
                let Some((session, attempt, token)) = self.held.pop_front() else { break };
                let usage = Usage { elapsed: Duration::from_millis(5), ..Usage::default() };
                let kind = ReportKind::Finished { outcome: Ok(Outputs::default()), usage };
                let report = Box::new(WorkerReport { attempt, token, kind });
                let step = self.core.handle(NOW, Event::Reported { session, report }).unwrap();
                self.take(step);
                done += 1;
            }
            self.place();
        }
        done
    }
}

#[expect(clippy::disallowed_methods, reason = "benches measure time")]
fn timed(mut act: impl FnMut()) -> Duration {
    let start = Instant::now();
    act();
    start.elapsed()
}

fn submissions(c: &mut Criterion) {
    let mut group = c.benchmark_group("submit");
    group.sample_size(10);
    for n in [100_000usize, 1_000_000] {
        let dag = layers(n, 1000, 3, &[""]);
        group.throughput(Throughput::Elements(u64::try_from(n).unwrap()));
        group.bench_with_input(BenchmarkId::from_parameter(n), &dag, |b, dag| {
            b.iter_batched(
                || core(Settings::default()),
                |mut core| {
                    submit(&mut core, 1, "default", dag);
                    core
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Grants and finishes each task of a whole run: two transitions per task.
fn transitions(c: &mut Criterion) {
    let mut group = c.benchmark_group("transition");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for (shape, width, fan_in) in [("fan_out", usize::MAX, 0), ("layered", 100, 3), ("chain", 1, 1)]
    {
        for n in [1_000usize, 10_000, 100_000, 1_000_000] {
            let dag = layers(n, width.min(n), fan_in, &[""]);
            group.throughput(Throughput::Elements(u64::try_from(n).unwrap() * 2));
            group.bench_with_input(BenchmarkId::new(shape, n), &dag, |b, dag| {
                b.iter_custom(|rounds| (0..rounds).map(|_| run_through(dag)).sum());
            });
        }
    }
    group.finish();
}

fn run_through(dag: &Arc<Dag>) -> Duration {
    let mut core = core(Settings::default());
    attach(&mut core, 1, &Resources::none(), 1000);
    submit(&mut core, 1, "default", dag);
    let mut drive = Drive::new(core);
    timed(|| {
        drive.place();
        assert_eq!(drive.finish(dag.n_tasks(), 64), dag.n_tasks());
    })
}

/// One pass that places 1,000 tasks on 10,000 workers.
fn passes(c: &mut Criterion) {
    let mut group = c.benchmark_group("pass");
    group.sample_size(10);
    let mixed: Vec<String> = (0..40)
        .map(|at| format!("cpu=0.{:03} memory={}Mi", 100 + at * 20, 100 + at * 37 % 1000))
        .collect();
    let mixed: Vec<&str> = mixed.iter().map(String::as_str).collect();
    for (name, classes, load) in [
        ("alike_empty", &["cpu=1"][..], 0),
        ("alike_loaded", &["cpu=1"], 150_000),
        ("mixed_loaded", &mixed, 150_000),
    ] {
        for spreading in [kahn_core::Spreading::Spread, kahn_core::Spreading::Pack] {
            let dag = layers(load + 1_000, load + 1_000, 0, classes);
            group.bench_function(BenchmarkId::new(name, format!("{spreading:?}")), |b| {
                b.iter_custom(|rounds| (0..rounds).map(|_| one_pass(&dag, load, spreading)).sum());
            });
        }
    }
    group.finish();
}

fn one_pass(dag: &Arc<Dag>, load: usize, spreading: kahn_core::Spreading) -> Duration {
    let mut core = core(Settings { spreading, grants_per_pass: 1_000, ..Settings::default() });
    let capacity: Resources = "cpu=16 memory=64Gi".parse().unwrap();
    for n in 0..10_000 {
        attach(&mut core, n, &capacity, 1000);
    }
    submit(&mut core, 1, "default", dag);
    for _ in 0..load / 1_000 {
        black_box(core.place(NOW));
    }
    timed(|| {
        let step = core.place(NOW);
        assert_eq!(step.changes.len(), 1_000);
    })
}

/// Steady work on a full cluster with waiting tasks: one attempt ends, and its room is filled.
fn full_cluster(c: &mut Criterion) {
    let mut group = c.benchmark_group("full_cluster");
    group.sample_size(10);
    let mixed: Vec<String> = (0..20).map(|at| format!("cpu={} memory=1Gi", 1 + at % 4)).collect();
    let mixed: Vec<&str> = mixed.iter().map(String::as_str).collect();
    for (name, classes, n_workers, n_namespaces) in [
        ("alike/100_workers", &["cpu=1"][..], 100u64, 1u128),
        ("alike/10000_workers", &["cpu=1"], 10_000, 1),
        ("mixed/10000_workers", &mixed, 10_000, 1),
        ("alike/10000_workers/1000_namespaces", &["cpu=1"], 10_000, 1000),
    ] {
        let n_tasks = 300_000 / usize::try_from(n_namespaces).unwrap();
        let dag = layers(n_tasks, n_tasks, 0, classes);
        group.throughput(Throughput::Elements(20_000));
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                (0..rounds).map(|_| steady(&dag, n_workers, n_namespaces)).sum()
            });
        });
    }
    group.finish();
}

fn steady(dag: &Arc<Dag>, n_workers: u64, n_namespaces: u128) -> Duration {
    let mut core = core(Settings::default());
    let capacity: Resources = "cpu=16 memory=64Gi".parse().unwrap();
    for n in 0..n_workers {
        attach(&mut core, n, &capacity, 1000);
    }
    for n in 0..n_namespaces {
        submit(&mut core, n + 1, &format!("n{n}"), dag);
    }
    let mut drive = Drive::new(core);
    drive.place();
    while drive.core.has_more_to_place() {
        drive.place();
    }
    timed(|| {
        assert_eq!(drive.finish(20_000, 16), 20_000);
    })
}

/// Small runs, after many finished ones.
fn past(c: &mut Criterion) {
    let mut group = c.benchmark_group("small_run_after");
    group.sample_size(10);
    let dag = layers(10, 10, 0, &[""]);
    for n_finished in [0u128, 10_000, 100_000] {
        let mut core = core(Settings::default());
        attach(&mut core, 1, &Resources::none(), 1000);
        let mut drive = Drive::new(core);
        let (mut n, dag) = (0, Arc::clone(&dag));
        let mut one = move || {
            n += 1;
            submit(&mut drive.core, n, "default", &dag);
            drive.place();
            drive.finish(10, 10);
        };
        (0..n_finished).for_each(|_| one());
        group.bench_function(BenchmarkId::from_parameter(n_finished), |b| b.iter(&mut one));
    }
    group.finish();
}

/// A takeover with 100,000 leases in force.
fn takeover(c: &mut Criterion) {
    let dag = layers(100_000, 100_000, 0, &[""]);
    let mut core = core(Settings::default());
    let mut log = Vec::new();
    let submission = Arc::new(submission(1, "default", &dag));
    log.extend(core.handle(NOW, Event::Submitted(submission)).unwrap().changes);
    for n in 0..100 {
        attach(&mut core, n, &Resources::none(), 1000);
    }
    while core.state().n_ready() > 0 {
        log.extend(core.place(NOW).changes);
    }
    let mut group = c.benchmark_group("takeover");
    group.sample_size(10);
    group.bench_function("replay_and_begin/100000", |b| {
        b.iter(|| {
            let mut core = Core::new(Settings::default());
            for change in &log {
                core.replay(NOW, change);
            }
            black_box(core.begin(NOW, Term { epoch: 2, nonce: 2 }));
        });
    });
    group.bench_function("begin/100000", |b| {
        b.iter(|| black_box(core.begin(NOW, Term { epoch: 2, nonce: 2 })));
    });
    group.finish();
}

criterion_group!(benches, submissions, transitions, passes, full_cluster, past, takeover);
criterion_main!(benches);
