//! Memory use per task. In a separate file, so that nothing else runs in the process.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::fs;
use std::sync::Arc;

use kahn_core::log::Term;
use kahn_core::testing::submission;
use kahn_core::{Core, Event, Settings};
use kahn_model::{
    Action, Dag, DagBuilder, Name, NewTask, RunPolicy, TaskIx, Timestamp, Work, limits,
};

/// Maximum memory of the coordinator per task of a submitted DAG.
const BYTES_PER_TASK_MAX: usize = 400;

/// Returns the resident memory of the process in bytes.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Builds a DAG of a million tasks with three dependencies each.
fn large() -> Arc<Dag> {
    let mut builder = DagBuilder::new(Name::new("large").unwrap(), RunPolicy::default());
    for at in 0..limits::TASKS_MAX {
        let name = Name::new(&format!("task-{at:07}")).unwrap();
        builder.task(NewTask::new(name, Work::new(Action::Noop))).unwrap();
    }
    for at in 1000..limits::TASKS_MAX {
        for k in 0..3 {
            let dependency = (at / 1000 - 1) * 1000 + (at + k * 7) % 1000;
            builder.after(TaskIx::from_index(at), TaskIx::from_index(dependency));
        }
    }
    Arc::new(builder.build().unwrap())
}

#[test]
fn a_task_of_a_large_dag_costs_at_most_so_many_bytes() {
    let before = resident();
    let dag = large();
    let with_dag = resident();
    let mut core = Core::new(Settings::default());
    core.begin(Timestamp(1), Term { epoch: 1, nonce: 1 });
    let event = Event::Submitted(Arc::new(submission(1, "default", &dag)));
    let step = core.handle(Timestamp(1), event).unwrap();
    drop((step, dag));
    let after = resident();
    let per_task = (after - before) / limits::TASKS_MAX;
    println!(
        "{per_task} bytes per task, {} of them the DAG",
        (with_dag - before) / limits::TASKS_MAX
    );
    assert!(per_task <= BYTES_PER_TASK_MAX, "{per_task} bytes per task");
    assert_eq!(core.state().n_runs(), 1);
}
