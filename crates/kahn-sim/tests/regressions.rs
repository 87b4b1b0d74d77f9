//! One named seed, or a few, for every bug that the simulator has found and that a seed still shows
//! when the bug is put back. What `tests/seeds.rs` draws may change; these stay.

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

/// A worker gave up a stream on which its inventory was still under way, attached on another, and
/// lost that one too; then the old inventory arrived, and attempts that it did not name yet
/// counted as lost though they ran.
#[test]
fn an_inventory_that_arrives_after_a_later_stream_has_ended_is_ignored() {
    check(&[2202, 3242]);
}

/// A single store lost its tail and with it the checkpoint up to which the owner had freed its
/// memory; when the store lost the mended tail again, the owner could not mend it.
#[test]
fn memory_is_not_freed_for_a_checkpoint_that_the_store_has_lost() {
    check(&[275, 364, 1026, 2118]);
}

/// An attempt that waited for room on a worker that was cut off counted as cancelled, and its task
/// failed for good.
#[test]
fn an_attempt_that_waits_on_a_worker_that_is_cut_off_is_not_cancelled() {
    check(&[3324]);
}

/// An inventory was drawn up for a stream that the coordinator had not taken yet, and arrived in
/// a later term of the same process, which knew of leases that it could not name.
#[test]
fn an_inventory_is_no_older_than_the_term_that_hears_it() {
    check(&[3861]);
}
