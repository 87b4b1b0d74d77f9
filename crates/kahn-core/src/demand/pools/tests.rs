//! Tests of the number of workers that pools need.

use std::collections::BTreeSet;
use std::time::Duration;

use kahn_model::{ActionKind, POOL_LABEL, TaskState};

use super::*;
use crate::event::Event;
use crate::settings::{PoolSettings, Settings};
use crate::testing::{DagScript, World, dag};

fn pool(name: &str, capacity: &str) -> PoolSettings {
    let name = Name::new(name).unwrap();
    PoolSettings { capacity: capacity.parse().ok(), ..PoolSettings::new(name) }
}

fn world(pools: Vec<PoolSettings>) -> World {
    World::with(Settings { pools, ..Settings::default() })
}

/// Returns a DAG of `n` independent tasks with these resources.
fn tasks(n: usize, resources: &str) -> DagScript {
    (0..n).fold(dag(), |dag, ix| dag.task(&format!("t{ix}")).resources(resources))
}

fn attach(world: &mut World, name: &str, pool: &str, capacity: &str) {
    world.attach_with(name, capacity, &[(POOL_LABEL, pool)], 100);
}

/// Returns the waiting tasks and the wanted workers of each pool.
fn wanted(world: &World) -> Vec<(u64, u64)> {
    let pools = world.core.pool_demand().unwrap();
    pools.iter().map(|pool| (pool.n_waiting, pool.n_wanted)).collect()
}

#[test]
fn a_pool_without_workers_wants_as_many_as_its_tasks_fill() {
    let mut world = world(vec![pool("a", "cpu=4 memory=8Gi")]);
    assert_eq!(wanted(&world), [(0, 0)]);
    world.submit(&tasks(5, "cpu=1").build());
    assert_eq!(wanted(&world), [(5, 2)], "four fit one worker");
    world.submit(&tasks(2, "cpu=3").build());
    assert_eq!(wanted(&world), [(7, 4)], "one with three processors fits, not one and a third");
    world.submit(&tasks(1, "cpu=8").build());
    assert_eq!(wanted(&world), [(7, 4)], "more workers would not help");
}

#[test]
fn workers_with_leases_are_wanted_and_idle_ones_are_not() {
    let mut world = world(vec![pool("a", "cpu=2")]);
    for name in ["w1", "w2", "w3"] {
        attach(&mut world, name, "a", "cpu=2");
    }
    assert_eq!(wanted(&world), [(0, 0)]);
    let run = world.submit(&tasks(2, "cpu=1").build());
    let demand = &world.core.pool_demand().unwrap()[0];
    let PoolDemand { n_workers, n_busy, n_leases, n_wanted, .. } = demand;
    assert_eq!(
        (*n_workers, *n_busy, *n_leases, *n_wanted),
        (3, 2, 2, 2),
        "spread over two workers"
    );
    world.finish_all();
    assert_eq!(world.run(run).count(TaskState::Succeeded), 2);
    assert_eq!(wanted(&world), [(0, 0)]);
}

#[test]
fn tasks_that_find_only_pieces_of_room_want_another_worker() {
    let mut world = world(vec![pool("a", "cpu=4")]);
    attach(&mut world, "w1", "a", "cpu=4");
    attach(&mut world, "w2", "a", "cpu=4");
    world.submit(&tasks(2, "cpu=1").build());
    world.submit(&tasks(1, "cpu=4").build());
    assert_eq!(wanted(&world), [(1, 3)], "although one and a half workers would do");
}

#[test]
fn a_cordoned_worker_is_taken_and_one_that_leaves_does_not_count() {
    let mut world = world(vec![pool("a", "cpu=1")]);
    attach(&mut world, "w1", "a", "cpu=1");
    attach(&mut world, "w2", "a", "cpu=1");
    let cordon = |name: &str| crate::testing::worker_id(name);
    world.accept(Event::CordonRequested { worker: cordon("w1"), is_cordoned: true });
    world.submit(&tasks(2, "cpu=1").build());
    assert_eq!(wanted(&world), [(1, 3)], "one cordoned, one busy, one for the task that waits");
    world.accept(Event::DrainRequested { worker: cordon("w2") });
    assert_eq!(wanted(&world), [(1, 2)]);
}

#[test]
fn tasks_go_to_the_pool_with_the_fewest_resources_that_they_do_not_need() {
    let mut world = world(vec![pool("gpu", "cpu=4 gpu=1"), pool("plain", "cpu=4")]);
    world.submit(&tasks(4, "cpu=2").build());
    assert_eq!(wanted(&world), [(0, 0), (4, 2)]);
    world.submit(&tasks(3, "cpu=1 gpu=1").build());
    assert_eq!(wanted(&world), [(3, 3), (4, 2)]);
}

#[test]
fn what_a_pool_cannot_take_is_left_to_the_next_one() {
    let limited = PoolSettings { workers_max: Some(2), ..pool("a", "cpu=1") };
    let mut world = world(vec![limited.clone(), pool("b", "cpu=1")]);
    world.submit(&tasks(5, "cpu=1").build());
    assert_eq!(wanted(&world), [(2, 2), (3, 3)]);
    let mut alone = self::world(vec![limited]);
    alone.submit(&tasks(5, "cpu=1").build());
    assert_eq!(wanted(&alone), [(5, 5)], "more than the maximum, to be seen");
}

#[test]
fn labels_and_kinds_decide_which_pool_can_run_a_task() {
    let mut near = pool("near", "cpu=1");
    near.labels.insert("zone".into(), "eu".into());
    near.executors = Some(BTreeSet::from([ActionKind::Builtin]));
    let mut world = world(vec![near]);
    world.submit(&dag().task("a").on("zone", "eu").task("b").on("zone", "us").build());
    world.submit(&dag().task("c").exec(&["true"]).build());
    world.submit(&dag().task("d").on(POOL_LABEL, "near").task("e").on(POOL_LABEL, "far").build());
    assert_eq!(wanted(&world)[0].0, 2, "a and d");
}

#[test]
fn what_is_not_configured_is_learned_from_a_worker_and_kept_when_it_is_gone() {
    let mut world = world(vec![PoolSettings::new(Name::new("a").unwrap())]);
    world.submit(&dag().task("f").having("function/resize").build());
    world.submit(&tasks(3, "cpu=2").build());
    assert_eq!(wanted(&world), [(3, 1)], "at least one worker, which will tell");
    world.attach_with("w1", "cpu=2", &[(POOL_LABEL, "a"), ("function/resize", "")], 100);
    world.finish_all();
    world.accept(Event::DrainRequested { worker: crate::testing::worker_id("w1") });
    world.detach("w1");
    world.submit(&dag().task("f").having("function/resize").build());
    world.submit(&tasks(3, "cpu=2").build());
    assert_eq!(wanted(&world), [(4, 4)]);
}

#[test]
fn a_task_for_a_pool_without_workers_waits_for_one() {
    let mut world = world(vec![pool("gpu", "cpu=1 gpu=1")]);
    attach(&mut world, "w1", "plain", "cpu=1");
    let run =
        world.submit(&dag().task("a").resources("gpu=1").task("b").resources("gpu=2").build());
    world.wait(Duration::from_secs(120));
    assert_eq!(world.task_state(run, "a"), TaskState::Ready);
    let explanation = world.core.explain(run, world.task(run, "a")).unwrap();
    assert_eq!(explanation.code, "no_worker");
    assert_eq!(explanation.message, "pool gpu has no worker that could run it now");
    assert_eq!(world.task_state(run, "b"), TaskState::Failed, "no pool could ever run it");
}

#[test]
fn nothing_is_said_until_the_holders_of_leases_are_known() {
    let mut world = world(vec![pool("a", "cpu=1")]);
    attach(&mut world, "w1", "a", "cpu=1");
    world.submit(&tasks(1, "cpu=1").build());
    world.take_over(Duration::from_secs(1));
    assert_eq!(world.core.pool_demand(), None);
    world.reattach("w1");
    assert_eq!(wanted(&world), [(0, 1)]);
}
