//! One or more seeds for every bug that the simulator has found, as long as the seed still fails
//! when the bug is reintroduced. The seeds of `tests/seeds.rs` may change; these do not.

use kahn_sim::{Options, run};

fn check(seeds: &[u64]) {
    for seed in seeds {
        let report = run(&Options { seed: *seed, ..Options::default() });
        if let Some(violation) = report.violation {
            panic!("seed {seed}: {violation}");
        }
        assert!(report.n_executions > 0, "seed {seed} does nothing");
    }
}

/// A worker abandoned a stream with its inventory in flight, attached on another stream, and lost
/// that one too. Then the old inventory arrived, and running attempts that it did not contain yet
/// were treated as lost.
#[test]
fn an_inventory_that_arrives_after_a_later_stream_has_ended_is_ignored() {
    check(&[2202, 3242]);
}

/// A single store lost its tail, including the checkpoint up to which the owner had freed its
/// memory. When the store lost the restored tail again, the owner could not restore it.
#[test]
fn memory_is_not_freed_for_a_checkpoint_that_the_store_has_lost() {
    check(&[275, 364, 1026, 2118]);
}

/// An attempt that waited for room on a disconnected worker was treated as cancelled, and its task
/// failed permanently.
#[test]
fn an_attempt_that_waits_on_a_worker_that_is_cut_off_is_not_cancelled() {
    check(&[3324]);
}

/// An inventory was created for a stream that the coordinator had not accepted yet, and arrived in
/// a later term of the same process, which knew of leases that the inventory could not contain.
#[test]
fn an_inventory_is_no_older_than_the_term_that_hears_it() {
    check(&[3861]);
}
