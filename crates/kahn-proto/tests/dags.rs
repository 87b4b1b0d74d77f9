//! DAGs survive a round trip, and invalid messages are refused.

#[cfg(test)]
#[path = "dags/support.rs"]
mod support;

use kahn_model::{Action, DagBuilder, DagError, Name, NewTask, RunPolicy, Text, Work, limits};
use kahn_proto::convert::{ConvertError, dag, limits as wire_limits};
use kahn_proto::storage as wire;
use proptest::prelude::*;
use prost::Message;

proptest! {
    #[test]
    fn a_dag_comes_back_as_it_was(before in support::dag(20)) {
        let bytes = dag::to_wire(&before).encode_to_vec();
        let after = dag::from_wire(wire::Dag::decode(bytes.as_slice()).unwrap());
        prop_assert_eq!(after, Ok(before));
    }

    #[test]
    fn a_damaged_dag_is_a_dag_or_refused(
        before in support::dag(8),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = dag::to_wire(&before).encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(message) = wire::Dag::decode(bytes.as_slice())
            && let Ok(read) = dag::from_wire(message)
        {
            prop_assert_eq!(dag::from_wire(dag::to_wire(&read)), Ok(read));
        }
    }
}

#[test]
fn a_plain_task_costs_at_most_40_bytes() {
    let n = 100_000;
    let bytes = dag::to_wire(&support::layered(n, 3)).encoded_len();
    assert!(bytes <= 40 * n, "{bytes} bytes for {n} tasks");
}

/// A matrix of `n` tasks, all with the same long value.
fn with_a_long_value(n: usize) -> kahn_model::Dag {
    let mut builder = DagBuilder::new(Name::new("d").expect("a valid DAG"), RunPolicy::default());
    for at in 0..n {
        let mut work = Work::new(Action::Noop);
        let texts = [("PARAM_p", "x".repeat(100_000)), ("MATRIX_v", at.to_string())];
        work.env = texts.map(|(name, value)| (name.into(), Text::new(value))).into();
        builder
            .task(NewTask::new(Name::new(&format!("t{at}")).expect("a valid DAG"), work))
            .expect("a valid DAG");
    }
    builder.build().expect("a valid DAG")
}

#[test]
fn a_value_that_many_works_contain_is_stored_once() {
    let before = with_a_long_value(100);
    let message = dag::to_wire(&before);
    assert!(message.encoded_len() < 110_000, "{} bytes", message.encoded_len());
    let after = dag::from_wire(message.clone()).unwrap();
    assert_eq!(after, before);
    assert!(after.works()[7].env[0].1.is_same(&after.works()[0].env[0].1));

    let mut wrong = message;
    wrong.works[3].env[0].shared_value = 2;
    let error = dag::from_wire(wrong).unwrap_err();
    assert!(matches!(error, ConvertError::OutOfRange { field: "env.shared_value", .. }), "{error}");
}

fn refused(change: impl Fn(&mut wire::Dag)) -> ConvertError {
    let mut message = dag::to_wire(&support::layered(4000, 2));
    change(&mut message);
    dag::from_wire(message).expect_err("the message has been broken")
}

#[test]
fn each_broken_promise_is_refused_by_name() {
    let missing = refused(|dag| dag.policy = None);
    assert_eq!(missing, ConvertError::Missing { field: "dag.policy" });

    let unspecified = refused(|dag| dag.policy.as_mut().unwrap().on_failure = 0);
    assert_eq!(unspecified, ConvertError::UnknownValue { field: "policy.on_failure", found: 0 });

    let short = refused(|dag| dag.names = dag.names[1..].to_owned());
    assert!(matches!(short, ConvertError::Length { field: "dag.names", .. }), "{short}");

    let name = refused(|dag| dag.names.replace_range(0..1, "-"));
    assert!(matches!(name, ConvertError::Name { field: "dag.names", .. }), "{name}");

    let far = refused(|dag| dag.dependencies[0] = 4000);
    assert!(matches!(far, ConvertError::OutOfRange { field: "dag.dependencies", .. }), "{far}");

    let ahead = refused(|dag| dag.dependencies[0] = -4000);
    assert!(matches!(ahead, ConvertError::Dag(DagError::UnknownTask(_))), "{ahead}");

    let itself = refused(|dag| dag.dependencies[0] = 0);
    assert!(matches!(itself, ConvertError::Dag(DagError::Cycle(_))), "{itself}");

    let no_work = refused(|dag| dag.works.clear());
    assert!(matches!(no_work, ConvertError::OutOfRange { field: "dag.task_works", .. }));

    let no_action = refused(|dag| dag.works[0].action = None);
    assert_eq!(no_action, ConvertError::Missing { field: "work.action" });

    let kind = refused(|dag| dag.dependency_kinds = vec![0x11; dag.dependencies.len() - 1].into());
    assert!(matches!(kind, ConvertError::Length { field: "dag.dependency_kinds", .. }), "{kind}");

    let stray = refused(|dag| {
        dag.conditions = vec![wire::Condition { task: 4000, expression: "true".to_owned() }];
    });
    assert!(matches!(stray, ConvertError::OutOfRange { field: "dag.conditions", .. }), "{stray}");
}

#[test]
fn what_passes_a_limit_is_read_but_not_taken_on() {
    let long = "x".repeat(limits::ACTION_BYTES_MAX + 1);
    let action = Action::Run { script: long.into(), shell: Default::default() };
    let mut builder = DagBuilder::new(Name::new("d").unwrap(), RunPolicy::default());
    builder.task(NewTask::new(Name::new("t").unwrap(), Work::new(action))).unwrap();
    let before = builder.build().unwrap();
    let after = dag::from_wire(dag::to_wire(&before)).unwrap();
    let refused = wire_limits::check(&after).unwrap_err();
    assert!(matches!(refused, ConvertError::OutOfRange { field: "work.action", .. }));
    assert_eq!(wire_limits::check(&support::layered(10, 1)), Ok(()));
}
