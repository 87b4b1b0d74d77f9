//! The outcome of a task with one dependency, for each trigger, required state and kind, and for
//! each end of the dependency.

use std::fmt::Write as _;

use kahn_core::Event;
use kahn_core::testing::{World, dag, exit_code};
use kahn_model::{CauseKind, DependencyKind, Failure, Outputs, TaskState, Trigger, When};

/// How the dependency ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Succeeds,
    Fails,
    IsSkipped,
}

/// Returns the table, with one line per trigger, required state and kind.
pub(crate) fn table() -> String {
    let mut out =
        String::from("# the dependency:                  succeeds    fails       is skipped\n");
    for trigger in Trigger::ALL {
        for when in When::ALL {
            for kind in DependencyKind::ALL {
                write!(out, "{:<12} {:<9} {:<9} ", name(trigger), name(when), name(kind)).unwrap();
                for end in [End::Succeeds, End::Fails, End::IsSkipped] {
                    write!(out, " {:<11}", outcome_of(trigger, when, kind, end)).unwrap();
                }
                out.truncate(out.trim_end().len());
                out.push('\n');
            }
        }
    }
    out
}

fn name(item: impl std::fmt::Debug) -> String {
    format!("{item:?}").to_lowercase()
}

/// Returns the outcome of a task whose only dependency ends in this way. Another task keeps the run
/// open.
fn outcome_of(trigger: Trigger, when: When, kind: DependencyKind, end: End) -> &'static str {
    let mut world = World::new();
    world.attach("w1", "cpu=2");
    let dag = dag()
        .task("other")
        .task("dependency")
        .condition("x")
        .task("task")
        .trigger(trigger)
        .needs("dependency", when, kind)
        .build();
    let run = world.submit(&dag);
    let task = world.task(run, "dependency");
    if matches!(end, End::IsSkipped) {
        let outcome = Err(Failure::of(CauseKind::Condition));
        world.accept(Event::Evaluated { run, task, outcome });
        return word(world.task_state(run, "task"), "runs", "is skipped");
    }
    world.accept(Event::Evaluated { run, task, outcome: Ok(None) });
    assert_eq!(world.task_state(run, "task"), TaskState::Pending);
    let attempt = world.held("w1", run, "dependency").unwrap();
    world.start("w1", attempt);
    match world.task_state(run, "task") {
        TaskState::Pending => {}
        state => return word(state, "runs early", "skip early"),
    }
    let outcome =
        if matches!(end, End::Fails) { Err(exit_code(1)) } else { Ok(Outputs::default()) };
    world.finish("w1", attempt, outcome);
    let state = word(world.task_state(run, "task"), "runs", "is skipped");
    world.finish_all();
    state
}

fn word(state: TaskState, held: &'static str, skipped: &'static str) -> &'static str {
    match state {
        TaskState::Leased => held,
        TaskState::Skipped => skipped,
        other => panic!("undecided: {other}"),
    }
}
