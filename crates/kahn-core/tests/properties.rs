//! Checks invariants after every step of random histories.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "support/oracle.rs"]
mod oracle;
#[path = "support/plan.rs"]
mod plan;

use kahn_core::{Change, Command, Snapshot};
use kahn_model::Partition;
use proptest::prelude::*;

use oracle::Oracle;
use plan::{Plan, Play, heal, plan};

/// Returns everything durable, except the time of the latest event.
fn durable(play: &Play, partitions: u16) -> Vec<Snapshot> {
    (0..partitions)
        .map(|at| {
            let mut snapshot = play.world.core.state().snapshot(Partition(at));
            snapshot.at = kahn_model::Timestamp::ZERO;
            snapshot
        })
        .collect()
}

/// Executes a plan with checks after every act, and returns the results.
fn carry_out(plan: &Plan) -> (Play, Vec<String>) {
    let mut play = Play::new(plan);
    let mut oracle = Oracle::default();
    let mut trace = Vec::new();
    for act in &plan.acts {
        let n_before = play.world.log.len();
        if let Some(event) = play.event(act) {
            let before = durable(&play, plan.partitions);
            let outcome = play.world.step(event);
            if let Err(refusal) = outcome {
                assert_eq!(play.world.log[n_before..], [], "refused: {refusal}");
                assert_eq!(before, durable(&play, plan.partitions), "refused: {refusal}");
            }
        }
        let changes = play.world.log[n_before..].to_vec();
        let commands = play.world.take();
        check_commands(&changes, &commands);
        oracle.check(&play.world, &changes);
        trace.push(format!("{act:?} {changes:?} {commands:?}"));
    }
    (play, trace)
}

/// Checks that watchers are notified of every change, and that every lease is sent to its worker.
fn check_commands(changes: &[(kahn_model::Timestamp, Change)], commands: &[Command]) {
    for (_, change) in changes {
        let is_told = commands.iter().any(
            |command| matches!(command, Command::Notify { run } if Some(*run) == change.run()),
        );
        // The expiry of a dependency is not visible in a run, and neither is a change of the
        // cluster.
        let is_shown =
            change.run().is_some() && !matches!(change, Change::DependencyExpired { .. });
        assert!(is_told || !is_shown, "nobody was told of {change}");
        let Change::LeaseGranted { token, .. } = change else { continue };
        let is_sent = commands.iter().any(
            |command| matches!(command, Command::Grant { grant, .. } if grant.token == *token),
        );
        assert!(is_sent, "never sent: {change}");
    }
}

/// A failure prints its smallest plan, which can be turned into a test.
fn config() -> ProptestConfig {
    let max_shrink_iters = 2_000;
    ProptestConfig { cases: 150, failure_persistence: None, max_shrink_iters, ..Default::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_promise_holds_after_every_step_and_every_run_ends_when_faults_stop(
        plan in plan(120)
    ) {
        let (mut play, _) = carry_out(&plan);
        heal(&mut play.world);
        play.world.finish_all();
        let state = play.world.core.state();
        prop_assert_eq!(state.n_leases(), 0);
        prop_assert_eq!(state.n_ready(), 0);
    }

    #[test]
    fn the_same_events_twice_give_the_same_changes_and_commands(plan in plan(60)) {
        let (_, first) = carry_out(&plan);
        let (_, second) = carry_out(&plan);
        prop_assert_eq!(first, second);
    }
}
