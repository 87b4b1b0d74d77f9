//! Deliberate bugs in the protocol. An oracle must find each of them within 10,000 seeds.

#![expect(clippy::print_stdout, reason = "how many seeds it took is worth knowing")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use kahn_sim::{Mutation, Options, run};

const SEEDS_MAX: u64 = 10_000;

/// Returns the first seed that reveals the bug, and the failure.
fn find(mutation: Mutation) -> Option<(u64, String)> {
    (0..SEEDS_MAX).find_map(|seed| {
        let options = Options { seed, mutation: Some(mutation), ..Options::default() };
        match catch_unwind(AssertUnwindSafe(|| run(&options))) {
            Ok(report) => report.violation.map(|violation| (seed, violation.to_string())),
            Err(_) => Some((seed, "an invariant of the code itself".to_owned())),
        }
    })
}

fn check(mutation: Mutation) {
    let (seed, how) = find(mutation).unwrap_or_else(|| panic!("{mutation:?} is not found"));
    println!("{mutation:?}: {} seeds; {how}", seed + 1);
}

#[test]
fn a_store_that_does_not_check_the_fence_is_found() {
    check(Mutation::NoFenceCheck);
}

#[test]
fn a_store_that_does_not_check_the_sequence_is_found() {
    check(Mutation::NoSequenceCheck);
}

#[test]
fn a_coordinator_that_acts_before_its_changes_are_durable_is_found() {
    check(Mutation::ActBeforeCommit);
}

#[test]
fn a_takeover_that_does_not_renew_leases_is_found() {
    check(Mutation::NoFreshLease);
}

#[test]
fn a_coordinator_that_does_not_check_tokens_is_found() {
    check(Mutation::NoTokenCheck);
}

#[test]
fn a_coordinator_that_does_not_wait_for_the_end_of_an_attempt_is_found() {
    check(Mutation::NoConfirmation);
}

#[test]
fn a_coordinator_that_acts_although_its_lease_may_have_expired_is_found() {
    check(Mutation::NoLeaseCheck);
}

#[test]
fn a_coordinator_that_archives_what_is_not_stored_is_found() {
    check(Mutation::NoStoredArchive);
}
