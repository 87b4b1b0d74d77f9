//! Lower bounds are bounds, for random DAGs on random workers.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use kahn_model::duration::{self, LowerBound};
use kahn_model::{
    Action, Condition, Dag, DagBuilder, DependencyKind, Name, NewTask, Resources, RunPolicy, Shell,
    TaskIx, Trigger, When, Work,
};
use kahn_sim::{Simulation, WhatIf, WorkerShape, simulate};

/// A task that does nothing, sleeps (perhaps not at all), or runs for a time that is known or not.
fn task(rng: &mut Rng, at: usize) -> NewTask {
    let duration = Duration::from_millis(rng.u64(0..5) * rng.u64(0..1_000));
    let run = || Action::Run { script: "true".into(), shell: Shell::Sh };
    let (action, estimate) = match rng.u32(0..5) {
        0 => (Action::Noop, None),
        1 | 2 => (Action::Sleep { duration }, None),
        3 => (run(), Some(duration)),
        _ => (run(), None),
    };
    let mut task = NewTask::new(Name::new(&format!("t{at}")).unwrap(), Work::new(action));
    task.estimate = estimate;
    task.profile.resources = Resources::cpu_milli(rng.u64(0..=4) * 500);
    task.trigger = *rng.choice(&Trigger::ALL[..]).unwrap();
    task.condition = (rng.u32(0..8) == 0).then(|| Condition("true".into()));
    task
}

fn dag(rng: &mut Rng) -> Arc<Dag> {
    let n = rng.usize(1..40);
    let mut builder = DagBuilder::new(Name::new("d").unwrap(), RunPolicy::default());
    let is_plain = rng.bool();
    for at in 0..n {
        let mut task = task(rng, at);
        if is_plain {
            (task.trigger, task.condition) = (Trigger::AllSucceeded, None);
        }
        builder.task(task).unwrap();
    }
    let whens = [When::Succeeded, When::Completed, When::Started, When::Failed];
    for dependent in 1..n {
        for dependency in 0..dependent {
            if rng.usize(0..n) < 3 {
                let ends = [dependent, dependency].map(TaskIx::from_index);
                let (mut when, mut kind) = (When::Succeeded, DependencyKind::Required);
                if !is_plain {
                    when = *rng.choice(&whens).unwrap();
                    kind = *rng.choice(&DependencyKind::ALL).unwrap();
                }
                builder.depends(ends[0], ends[1], when, kind, None);
            }
        }
    }
    Arc::new(builder.build().unwrap())
}

/// Workers of different sizes, the first large enough for every task.
fn workers(rng: &mut Rng) -> Vec<WorkerShape> {
    let mut workers = WorkerShape::alike(rng.usize(1..6), &Resources::cpu_milli(2_000));
    for worker in workers.iter_mut().skip(1) {
        worker.capacity = Resources::cpu_milli(rng.u64(1..=8) * 500);
    }
    workers
}

/// Durations that agree with the estimates; those that are unknown are random.
fn durations(dag: &Dag, rng: &mut Rng) -> Vec<Duration> {
    let mut random = || Duration::from_millis(rng.u64(0..3_000));
    dag.tasks().map(|task| dag.estimate(task).unwrap_or_else(&mut random)).collect()
}

fn play(rng: &mut Rng) -> (Arc<Dag>, Resources, Simulation) {
    let (dag, workers) = (dag(rng), workers(rng));
    let mut capacity = Resources::none();
    workers.iter().for_each(|worker| capacity.add(&worker.capacity));
    let durations = Some(durations(&dag, rng));
    let answer = simulate(&dag, &WhatIf { durations, ..WhatIf::on(workers) });
    (dag, capacity, answer)
}

#[test]
fn no_bound_is_above_the_makespan_of_a_simulated_run() {
    let mut n_positive = 0;
    for seed in 0..2_000 {
        let (dag, capacity, answer) = play(&mut Rng::with_seed(seed));
        let bound = LowerBound::of(&dag, &capacity);
        assert!(bound.larger() <= answer.makespan, "seed {seed}: {bound:?} {answer:?}");
        assert!(answer.lower_bound() <= answer.makespan, "seed {seed}: {answer:?}");
        n_positive += usize::from(!bound.larger().is_zero());
    }
    assert!(n_positive > 1_600, "{n_positive}");
}

#[test]
fn with_known_durations_the_bounds_of_a_simulation_and_of_its_dag_agree() {
    for seed in 0..100 {
        let rng = &mut Rng::with_seed(seed);
        let sleeps = |at: usize, rng: &mut Rng| {
            let duration = Duration::from_millis(rng.u64(0..1_000));
            let work = Work::new(Action::Sleep { duration });
            let mut task = NewTask::new(Name::new(&format!("t{at}")).unwrap(), work);
            task.profile.resources = Resources::cpu_milli(1_000);
            task
        };
        let mut builder = DagBuilder::new(Name::new("d").unwrap(), RunPolicy::default());
        let tasks: Vec<TaskIx> = (0..20).map(|at| builder.task(sleeps(at, rng)).unwrap()).collect();
        for pair in tasks.windows(2).filter(|_| rng.bool()) {
            builder.after(pair[1], pair[0]);
        }
        let dag = Arc::new(builder.build().unwrap());
        let question = WhatIf::on(WorkerShape::alike(3, &Resources::cpu_milli(1_000)));
        let answer = simulate(&dag, &question);
        let bound = LowerBound::of(&dag, &Resources::cpu_milli(3_000));
        assert_eq!(answer.critical_path_bound, bound.chain, "seed {seed}");
        let expected = duration::expected(&dag).into_iter().map(Some);
        assert!(expected.eq(duration::least(&dag)), "seed {seed}");
    }
}
