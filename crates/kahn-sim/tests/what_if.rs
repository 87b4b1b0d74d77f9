//! What-if results that can be verified by hand, and lower bounds.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::Arc;
use std::time::Duration;

use kahn_model::{
    Action, Dag, DagBuilder, Name, NewTask, Profile, Resources, RunPolicy, TaskIx, Work,
};
use kahn_sim::{WhatIf, WorkerShape, best_of_references, gantt, simulate};

fn dag(durations: &[u64], edges: &[(u32, u32)]) -> Arc<Dag> {
    let mut builder = DagBuilder::new(Name::new("d").unwrap(), RunPolicy::default());
    for (at, seconds) in durations.iter().enumerate() {
        let work = Work::new(Action::Sleep { duration: Duration::from_secs(*seconds) });
        let mut task = NewTask::new(Name::new(&format!("task-{at}")).unwrap(), work);
        task.profile = Profile { resources: Resources::cpu_milli(1000), ..Profile::default() };
        builder.task(task).unwrap();
    }
    for (dependency, dependent) in edges {
        builder.after(TaskIx(*dependent), TaskIx(*dependency));
    }
    Arc::new(builder.build().unwrap())
}

fn workers(n: usize) -> Vec<WorkerShape> {
    WorkerShape::alike(n, &Resources::cpu_milli(1000))
}

#[test]
fn the_longest_path_goes_first() {
    let dag = dag(&[3, 3, 2, 2, 2], &[(2, 3), (3, 4)]);
    let answer = simulate(&dag, &WhatIf::on(workers(2)));
    assert_eq!(answer.critical_path, [TaskIx(2), TaskIx(3), TaskIx(4)]);
    assert_eq!(answer.critical_path_bound, Duration::from_secs(6));
    assert_eq!(answer.area_bound, Duration::from_secs(6));
    let head = answer.placements.iter().find(|one| one.task == TaskIx(2)).unwrap();
    assert_eq!(head.start, Duration::ZERO);
    assert_eq!(answer.makespan, answer.lower_bound());
    assert!((answer.utilisation - 1.0).abs() < 1e-9);
    assert_eq!(answer.waits.longest, Some((TaskIx(1), Duration::from_secs(3))));
    assert_eq!(answer.worker_utilisation.len(), 2);
    assert_eq!(best_of_references(&dag, &workers(2)), Duration::from_secs(6));
}

#[test]
fn with_a_worker_for_every_task_nothing_waits_and_the_critical_path_decides() {
    let dag = dag(&[3, 3, 2, 2, 2], &[(2, 3), (3, 4)]);
    let answer = simulate(&dag, &WhatIf::on(workers(3)));
    assert_eq!(answer.makespan, answer.critical_path_bound);
    assert_eq!(answer.waits.total, Duration::ZERO);
}

#[test]
fn each_hop_of_a_chain_pays_the_dispatch_latency() {
    let dag = dag(&[1, 1, 1], &[(0, 1), (1, 2)]);
    let latency = Duration::from_millis(10);
    let question = WhatIf { dispatch_latency: latency, ..WhatIf::on(workers(1)) };
    assert_eq!(simulate(&dag, &question).makespan, Duration::from_secs(3) + latency * 3);
}

#[test]
fn a_task_that_no_worker_can_take_is_named() {
    let dag = dag(&[1, 1], &[(0, 1)]);
    let question = WhatIf::on(WorkerShape::alike(2, &Resources::cpu_milli(500)));
    let answer = simulate(&dag, &question);
    assert_eq!(answer.unplaced, [TaskIx(0), TaskIx(1)]);
    assert_eq!(answer.makespan, Duration::ZERO);
}

#[test]
fn a_fan_out_of_a_hundred_thousand_tasks_keeps_all_workers_busy() {
    let n = 100_000u32;
    let mut durations = vec![0];
    durations.extend((0..n).map(|at| u64::from(at % 7) + 1));
    let edges: Vec<(u32, u32)> = (1..=n).map(|at| (0, at)).collect();
    let dag = dag(&durations, &edges);
    let answer = simulate(&dag, &WhatIf::on(WorkerShape::alike(32, &"cpu=8".parse().unwrap())));
    assert_eq!(answer.placements.len(), durations.len());
    assert!(answer.makespan < answer.lower_bound() + Duration::from_secs(7));
    assert!(answer.utilisation > 0.99, "{}", answer.utilisation);
}

#[test]
fn a_drawing_shows_every_task_and_fits_the_terminal() {
    let dag = dag(&[3, 3, 2, 2, 2], &[(2, 3), (3, 4)]);
    let question = WhatIf::on(workers(2));
    let answer = simulate(&dag, &question);
    let text = gantt::text(&dag, &question, &answer, 80);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let svg = gantt::svg(&dag, &question, &answer);
    for task in dag.tasks() {
        let name = dag.task_name(task);
        assert!(text.contains(name), "{name} is missing in\n{text}");
        assert!(svg.contains(name), "{name} is missing");
    }
    assert_eq!(svg.matches("<rect").count(), 5);
}

#[test]
fn many_workers_are_drawn_with_one_row_each() {
    let dag = dag(&[1; 200], &[]);
    let question = WhatIf::on(workers(100));
    let answer = simulate(&dag, &question);
    assert_eq!(answer.makespan, Duration::from_secs(2));
    assert_eq!(gantt::text(&dag, &question, &answer, 100).lines().count(), 101);
}
