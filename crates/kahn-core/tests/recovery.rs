//! Checks that recovery from a log, cut anywhere, produces the same state as handling the events.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "support/plan.rs"]
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kahn_core::log::Term;
use kahn_core::testing::World;
use kahn_core::{Change, Command, Core, Event, Settings, Snapshot};
use kahn_model::{CauseKind, Partition, RunId, TaskIx, TaskState, Timestamp};
use proptest::prelude::*;

use plan::{Plan, Play, WORKERS, heal, plan};

const PARTITIONS: u16 = 2;

/// Returns the durable state of a core, without the time of the latest event, and with the ages of
/// ready tasks reduced to their order.
fn durable_state(core: &Core) -> Vec<Snapshot> {
    let mut states: Vec<Snapshot> =
        (0..PARTITIONS).map(|at| core.state().snapshot(Partition(at))).collect();
    let ready = |state| state == TaskState::Ready;
    let ages: BTreeSet<u32> = states
        .iter()
        .flat_map(|snapshot| &snapshot.runs)
        .flat_map(|run| &run.cells)
        .filter(|cell| ready(cell.state))
        .map(|cell| cell.age)
        .collect();
    let order: BTreeMap<u32, u32> = ages.into_iter().zip(1..).collect();
    for snapshot in &mut states {
        snapshot.at = Timestamp::ZERO;
        for cell in snapshot.runs.iter_mut().flat_map(|run| &mut run.cells) {
            if ready(cell.state) {
                cell.age = order[&cell.age];
            }
        }
    }
    states
}

/// Disables prefetching, which depends on the workers' pace and thus on volatile state.
fn settings() -> Settings {
    Settings { partitions: PARTITIONS, prefetch_max: 0, ..Settings::default() }
}

/// Creates a core that replayed a log.
fn replayed(log: &[(Timestamp, Change)]) -> Core {
    let mut core = Core::new(settings());
    replay(&mut core, log);
    core
}

fn replay(core: &mut Core, log: &[(Timestamp, Change)]) {
    for (at, change) in log {
        core.replay(*at, change);
    }
}

/// Executes a plan. Returns, for each act, the length of the log after it and a snapshot of the
/// core.
fn execute(plan: &Plan) -> (Play, Vec<(usize, Vec<Snapshot>)>) {
    let mut play = Play::new(plan);
    let mut states = vec![(0, durable_state(&play.world.core))];
    for act in &plan.acts {
        if let Some(event) = play.event(act) {
            // Refused events are part of the plan.
            let _ = play.world.step(event);
        }
        states.push((play.world.log.len(), durable_state(&play.world.core)));
    }
    (play, states)
}

/// Creates a world with the given core and the workers of `play`, disconnected.
fn world_after_takeover(play: &Play, mut core: Core) -> (World, Vec<Command>) {
    let mut world = World::with(settings());
    world.now = play.world.now + Duration::from_secs(3600);
    let step = core.begin(world.now, Term { epoch: 77, nonce: 5 });
    assert!(step.changes.is_empty(), "a beginning decides nothing");
    for command in &step.commands {
        if let Command::Evaluate { run, task } = command {
            world.evaluations.push((*run, *task));
        }
    }
    world.core = core;
    world.workers = play.world.workers.clone();
    for worker in world.workers.values_mut() {
        worker.session = None;
    }
    (world, step.commands)
}

/// Returns the tasks whose evaluation was requested but not answered according to the log.
fn open_evaluations(core: &Core) -> BTreeSet<(RunId, TaskIx)> {
    let runs = core.state().runs().filter(|run| !run.state.is_terminal());
    runs.flat_map(|run| run.dag.tasks().map(move |task| (run, task)))
        .filter(|(run, task)| {
            core.explain(run.id(), *task).is_some_and(|why| why.code == "evaluating")
        })
        .map(|(run, task)| (run.id(), task))
        .collect()
}

/// A failure prints its smallest plan, which can be turned into a test.
fn config() -> ProptestConfig {
    let max_shrink_iters = 2_000;
    ProptestConfig { cases: 100, failure_persistence: None, max_shrink_iters, ..Default::default() }
}

/// Generates plans with two partitions.
fn plans() -> impl Strategy<Value = Plan> {
    plan(80).prop_map(|plan| Plan { partitions: PARTITIONS, ..plan })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn replaying_the_log_gives_what_living_through_it_gave(plan in plans()) {
        let (play, states) = execute(&plan);
        let mut core = Core::new(settings());
        let mut done = 0;
        for (len, expected) in states {
            replay(&mut core, &play.world.log[done..len]);
            done = len;
            prop_assert_eq!(durable_state(&core), expected);
        }
    }

    #[test]
    fn a_checkpoint_and_the_rest_of_the_log_give_the_same_as_all_of_it(
        plan in plans(), cut in any::<prop::sample::Index>()
    ) {
        let (play, _) = execute(&plan);
        let log = &play.world.log;
        let cut = cut.index(log.len() + 1);
        let before = replayed(&log[..cut]);
        let mut core = Core::new(settings());
        for at in 0..PARTITIONS {
            core.restore(before.state().snapshot(Partition(at)));
        }
        prop_assert_eq!(durable_state(&core), durable_state(&before));
        prop_assert_eq!(core.audit(), Vec::<String>::new());
        replay(&mut core, &log[cut..]);
        let whole = replayed(log);
        prop_assert_eq!(durable_state(&core), durable_state(&whole));
        prop_assert_eq!(core.audit(), Vec::<String>::new());

        // Both continue in the same way: ready order, timers and evaluations are equal too.
        let term = Term { epoch: 9, nonce: 9 };
        let now = play.world.now + Duration::from_secs(5);
        let (mut one, mut other) = (core, whole);
        prop_assert_eq!(digest(one.begin(now, term)), digest(other.begin(now, term)));
        prop_assert_eq!(one.next_deadline(), other.next_deadline());
        let (name, _) = WORKERS[2];
        let attachment = play.world.workers[name].attachment(kahn_core::SessionId(1 << 40));
        for core in [&mut one, &mut other] {
            core.handle(now, Event::WorkerAttached(Box::new(attachment.clone()))).unwrap();
        }
        prop_assert_eq!(digest(one.place(now)), digest(other.place(now)));
    }

    #[test]
    fn no_lease_is_lost_within_its_time_after_a_takeover_and_the_runs_then_end(
        plan in plans(), cut in any::<prop::sample::Index>()
    ) {
        let (play, _) = execute(&plan);
        let log = &play.world.log;
        // The end of the log may not be durable; commands that depend on it were never sent.
        let core = replayed(&log[..cut.index(log.len() + 1)]);
        let questions = open_evaluations(&core);
        let (mut world, commands) = world_after_takeover(&play, core);
        let asked: BTreeSet<_> = commands
            .iter()
            .filter_map(|command| match command {
                Command::Evaluate { run, task } => Some((*run, *task)),
                _ => None,
            })
            .collect();
        prop_assert_eq!(asked, questions);

        world.wait(world.core.state().settings().lease_ttl - Duration::from_micros(1));
        for (_, change) in &world.log {
            prop_assert!(!is_loss(change), "{change}");
        }
        heal(&mut world);
        world.finish_all();
        prop_assert_eq!(world.core.state().n_leases(), 0);
    }
}

fn digest(step: kahn_core::Step) -> String {
    format!("{:?} {:?}", step.changes, step.commands)
}

fn is_loss(change: &Change) -> bool {
    match change {
        Change::WorkerLost { .. } => true,
        Change::AttemptFinished { outcome: Err(failure), .. } => {
            failure.cause.kind == CauseKind::WorkerLost
        }
        _ => false,
    }
}
