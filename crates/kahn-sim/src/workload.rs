//! Random DAGs, runs and workers: small, and of every kind that the cores treat differently.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use kahn_core::Submission;
use kahn_model::{
    Action, Backoff, BackoffKind, CauseSet, Circuit, ConcurrencyKey, Condition, Dag, DagBuilder,
    DependencyKind, FailurePolicy, LabelRule, Labels, Multiplier, Name, Namespace, NewTask,
    OnDisconnect, Profile, Resource, Resources, RetryPolicy, RunId, RunPolicy, TaskIx, Timeouts,
    Trigger, Uuid, When, Work,
};
use kahn_worker_core::Sample;

use crate::queue::ms;

const MEBIBYTE: u64 = 1 << 20;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("invariant: a valid name")
}

pub(crate) fn chance(rng: &mut Rng, percent: u32) -> bool {
    rng.u32(..100) < percent
}

/// Returns a random duration between two bounds in milliseconds.
pub(crate) fn span(rng: &mut Rng, from_ms: u64, to_ms: u64) -> Duration {
    Duration::from_micros(rng.u64(from_ms * 1000..=to_ms * 1000))
}

/// Returns a random capacity of a worker.
pub(crate) fn capacity(rng: &mut Rng) -> Resources {
    let cpu = 1000 * rng.u64(1..=4);
    Resources::cpu_milli(cpu).with(&Resource::Memory, MEBIBYTE * 1024 * rng.u64(1..=4))
}

/// Returns random labels of a worker.
pub(crate) fn labels(rng: &mut Rng) -> Labels {
    let zone = if rng.bool() { "a" } else { "b" };
    Labels::from([("zone".to_owned(), zone.to_owned())])
}

/// Returns a random pressure sample, mostly low, so that shares rise as well as fall.
pub(crate) fn sample(rng: &mut Rng) -> Sample {
    let memory = if chance(rng, 10) { rng.u32(..1000) } else { 0 };
    let cpu = if chance(rng, 10) { rng.u32(..9000) } else { 1000 };
    let io = if chance(rng, 10) { rng.u32(..1000) } else { 0 };
    Sample { memory: Some(memory), available_memory: None, cpu: Some(cpu), io: Some(io) }
}

/// Returns a run of a random DAG.
pub(crate) fn submission(rng: &mut Rng) -> Arc<Submission> {
    let namespace = if chance(rng, 70) { "default" } else { "other" };
    let digest = rng.u128(..).to_le_bytes();
    Arc::new(Submission {
        run: RunId::new(Uuid::from_u128(rng.u128(..))),
        namespace: Namespace::new(name(namespace)),
        dag: Arc::new(dag(rng)),
        params: BTreeMap::new(),
        digest,
        labels: BTreeMap::new(),
    })
}

fn dag(rng: &mut Rng) -> Dag {
    let n = if chance(rng, 2) { rng.usize(40..=100) } else { rng.usize(3..=16) };
    let mut builder = DagBuilder::new(name("dag"), policy(rng));
    let mut tasks = Vec::new();
    let is_plain = chance(rng, 30);
    for at in 0..n {
        let mut task = NewTask::new(name(&format!("t{at}")), work());
        task.profile = profile(rng, is_plain);
        if !is_plain {
            task.trigger = trigger(rng);
            task.condition = chance(rng, 8).then(|| Condition("true".into()));
        }
        if chance(rng, 40) {
            task.estimate = Some(span(rng, 1, 3000));
        }
        let ix = builder.task(task).expect("invariant: few tasks");
        connect(rng, &mut builder, &tasks, ix, is_plain);
        tasks.push(ix);
    }
    builder.build().expect("invariant: later tasks depend on earlier ones")
}

fn work() -> Work {
    Work::new(Action::Run { script: "true".into(), shell: kahn_model::Shell::Sh })
}

fn connect(
    rng: &mut Rng,
    builder: &mut DagBuilder,
    earlier: &[TaskIx],
    task: TaskIx,
    is_plain: bool,
) {
    if earlier.is_empty() || chance(rng, 15) {
        return;
    }
    let mut chosen: Vec<TaskIx> =
        (0..rng.usize(1..=3)).map(|_| earlier[rng.usize(..earlier.len())]).collect();
    chosen.sort_unstable();
    chosen.dedup();
    for dependency in chosen {
        if is_plain || chance(rng, 75) {
            builder.after(task, dependency);
            continue;
        }
        let when = [When::Succeeded, When::Completed, When::Failed, When::Started];
        let timeout = chance(rng, 15).then(|| span(rng, 500, 10_000));
        let when = when[rng.usize(..when.len())];
        let kind = DependencyKind::ALL[rng.usize(..3)];
        builder.depends(task, dependency, when, kind, timeout);
    }
}

fn trigger(rng: &mut Rng) -> Trigger {
    if chance(rng, 85) { Trigger::AllSucceeded } else { Trigger::ALL[rng.usize(..5)] }
}

fn policy(rng: &mut Rng) -> RunPolicy {
    RunPolicy {
        on_failure: match rng.u32(..10) {
            0 => FailurePolicy::FailFast,
            1 => FailurePolicy::MaxFailures(2),
            _ => FailurePolicy::Continue,
        },
        max_parallel: chance(rng, 15).then(|| rng.u32(1..=3)),
        timeout: chance(rng, 5).then(|| span(rng, 5_000, 120_000)),
        priority: rng.i32(-1..=1),
    }
}

fn profile(rng: &mut Rng, is_plain: bool) -> Profile {
    let mut profile = Profile {
        resources: Resources::cpu_milli([250, 500, 1000, 1000][rng.usize(..4)]),
        retry: retry(rng),
        ..Profile::default()
    };
    if is_plain {
        return profile;
    }
    match rng.u32(..100) {
        0..12 => {
            let memory = MEBIBYTE * [64, 256, 512][rng.usize(..3)];
            profile.resources.set(&Resource::Memory, memory);
        }
        12..16 => profile.resources.set(&Resource::Cpu, 1000 * rng.u64(1..=5)),
        16..19 => profile.resources = Resources::none(),
        _ => {}
    }
    if chance(rng, 10) {
        let rule = LabelRule::In { key: "zone".to_owned(), values: vec!["a".to_owned()] };
        let selector = &mut profile.selector;
        let rules = if rng.bool() { &mut selector.required } else { &mut selector.preferred };
        rules.push(rule);
    }
    if chance(rng, 10) {
        profile.concurrency.push(ConcurrencyKey { key: name("key"), limit: rng.u32(1..=2) });
    }
    if chance(rng, 8) {
        let cool_down = span(rng, 500, 4000);
        profile.circuit = Some(Circuit { key: name("target"), failures: 2, cool_down });
    }
    if chance(rng, 20) {
        profile.on_disconnect = OnDisconnect::Stop;
    }
    profile.priority = rng.i32(0..=1);
    profile.timeouts = Timeouts {
        queue: chance(rng, 4).then(|| span(rng, 5_000, 60_000)),
        start: chance(rng, 8).then(|| span(rng, 4_000, 20_000)),
        run: chance(rng, 15).then(|| span(rng, 500, 6_000)),
        grace: chance(rng, 30).then(|| ms(100)),
    };
    profile
}

fn retry(rng: &mut Rng) -> RetryPolicy {
    RetryPolicy {
        max_attempts: rng.u32(1..=4),
        backoff: Backoff {
            kind: [BackoffKind::Fixed, BackoffKind::Linear, BackoffKind::Exponential]
                [rng.usize(..3)],
            initial: if chance(rng, 20) { Duration::ZERO } else { span(rng, 1, 1500) },
            max: Duration::from_secs(8),
            jitter: rng.bool(),
        },
        on: CauseSet::retryable(),
        memory: Multiplier(2000),
        timeout: Multiplier(1500),
        crash_limit: rng.u32(2..=5),
        memory_max: None,
    }
}
