//! Simulates many seeds, each of them twice. `KAHN_SIM_SEEDS` sets the number of seeds.
//! `KAHN_SIM_SEED` simulates a single one and prints its trace.

#![expect(clippy::print_stdout, reason = "the trace of a replayed seed is its result")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use kahn_sim::{Options, Report, run};

const SEEDS: u64 = 300;
const THREADS: usize = 2;
/// The maximum number of failing seeds to show.
const SHOWN_MAX: usize = 10;

#[derive(Default)]
struct Totals {
    n_events: u64,
    n_executions: u64,
    n_terms: u64,
    n_warm_takeovers: u64,
    n_archived: u64,
    n_restored: u64,
    n_faults: u64,
    n_lost_entries: u64,
    failed: Vec<(u64, String)>,
}

#[test]
fn every_seed_keeps_every_promise_and_repeats_to_the_last_bit() {
    if let Some(seed) = number("KAHN_SIM_SEED") {
        play_one(seed);
        return;
    }
    let count = number("KAHN_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let totals = Mutex::new(Totals::default());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count || totals.lock().unwrap().failed.len() >= SHOWN_MAX {
                        return;
                    }
                    let outcome = play_twice(seed);
                    add(&mut totals.lock().unwrap(), seed, outcome);
                }
            });
        }
    });
    let totals = totals.into_inner().unwrap();
    println!(
        "{count} seeds, each twice: {} events, {} attempts, {} terms ({} of warm standbys), \
         {} runs archived ({} restored), {} faults, {} entries lost",
        totals.n_events,
        totals.n_executions,
        totals.n_terms,
        totals.n_warm_takeovers,
        totals.n_archived,
        totals.n_restored,
        totals.n_faults,
        totals.n_lost_entries,
    );
    for (seed, why) in &totals.failed {
        println!("{why}\n    cargo xtask sim --seed {seed}");
    }
    assert!(totals.failed.is_empty(), "{} seeds failed", totals.failed.len());
    assert!(count < 100 || totals.n_lost_entries > 0, "the store never lost anything");
    assert!(count < 100 || totals.n_warm_takeovers > 0, "no warm standby took over");
    assert!(count < 100 || totals.n_archived > 0, "no run was archived");
    assert!(count < 100 || totals.n_restored > 0, "no archived run was restored");
}

fn add(totals: &mut Totals, seed: u64, outcome: Result<Report, String>) {
    match outcome {
        Ok(report) => {
            totals.n_events += report.n_events;
            totals.n_executions += report.n_executions;
            totals.n_terms += report.n_terms;
            totals.n_warm_takeovers += report.n_warm_takeovers;
            totals.n_archived += report.n_archived;
            totals.n_restored += report.n_restored;
            totals.n_faults += report.n_faults;
            totals.n_lost_entries += report.n_lost_entries;
        }
        Err(why) => totals.failed.push((seed, why)),
    }
}

fn play_twice(seed: u64) -> Result<Report, String> {
    let play = || {
        let options = Options { seed, ..Options::default() };
        catch_unwind(AssertUnwindSafe(|| run(&options))).map_err(|_| format!("seed {seed} panics"))
    };
    let report = play()?;
    if let Some(violation) = &report.violation {
        return Err(format!("seed {seed}: {violation}"));
    }
    if play()?.digest != report.digest {
        return Err(format!("seed {seed} differs when it is played again"));
    }
    Ok(report)
}

fn play_one(seed: u64) {
    let report = run(&Options { seed, is_traced: true, ..Options::default() });
    for line in &report.trace {
        println!("{line}");
    }
    println!("seed {seed}: {} events in {:?} of virtual time", report.n_events, report.elapsed);
    if let Some(violation) = &report.violation {
        panic!("seed {seed}: {violation}");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test has no configuration of its own")]
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text:?}")))
}
