//! The memory and the checkpoints that finished runs take. In a separate file, so that nothing else
//! runs in the process.
//!
//! `KAHN_RUNS=2000 cargo test -p kahn-coordinator --test footprint -- --nocapture` prints figures of
//! docs/operations.md.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::sync::Arc;
use std::time::Duration;

use kahn_core::testing::{World, dag};
use kahn_core::{ArchivedRun, Core, RunSnapshot, Settings, Snapshot};
use kahn_model::{Partition, RunId, Uuid};
use kahn_store::codec;
use tokio::time::Instant;

/// The number of tasks of each run.
const N_TASKS: usize = 100;
/// Maximum memory of an archived run, in bytes.
const BYTES_MAX: usize = 1024;
/// Maximum size of an archived run in a checkpoint, in bytes.
const CHECKPOINT_BYTES_MAX: usize = 256;

/// Runs a DAG of so many processes.
fn finished() -> RunSnapshot {
    let mut script = dag();
    for n in 0..N_TASKS {
        script = script.task(&format!("task-{n}")).exec(&["process", "--part", &n.to_string()]);
    }
    let mut world = World::new();
    world.attach("w", "cpu=4");
    let run = world.submit(&script.build());
    world.finish_all();
    world.core.state().snapshot_run(world.run(run))
}

/// Returns so many copies of a run that share nothing and have different ids.
fn copies(run: &RunSnapshot, n: usize) -> impl Iterator<Item = RunSnapshot> {
    let (archive, document) = codec::encode_archive(run);
    (1..=u128::try_from(n).unwrap()).map(move |n| {
        let mut run = codec::decode_archive(archive, &document).unwrap();
        let mut submission = (*run.submission).clone();
        submission.run = RunId::new(Uuid::from_u128(n));
        run.submission = Arc::new(submission);
        run
    })
}

/// What runs take.
struct Cost {
    bytes: usize,
    checkpoint_bytes: usize,
    checkpoint: Duration,
}

/// Measures what the runs of a snapshot take. `before` is the resident memory without them.
fn cost(snapshot: Snapshot, before: usize) -> Cost {
    let mut core = Core::new(Settings::default());
    core.restore(snapshot);
    let bytes = resident().saturating_sub(before);
    let began_at = Instant::now();
    let encoded = codec::encode_snapshot(&core.state().snapshot(Partition(0)));
    let checkpoint = began_at.elapsed();
    let blobs: usize = encoded.blobs.iter().map(|(_, bytes)| bytes.len()).sum();
    Cost { bytes, checkpoint_bytes: encoded.payload.len() + blobs, checkpoint }
}

/// Returns the resident memory of the process in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[expect(clippy::disallowed_methods, reason = "a test has no configuration of its own")]
fn n_runs() -> usize {
    std::env::var("KAHN_RUNS").map_or(1000, |n| n.parse().unwrap())
}

#[test]
fn an_archived_run_takes_a_fraction_of_the_memory_and_of_a_checkpoint() {
    let (n_runs, run) = (n_runs(), finished());
    let (archive, _) = codec::encode_archive(&run);
    let before = resident();
    let archived = copies(&run, n_runs).map(|run| ArchivedRun::new(&run.summary(), archive));
    let archived = Snapshot { archived: archived.collect(), ..Snapshot::default() };
    let archived = cost(archived, before);
    let before = resident();
    let whole = Snapshot { runs: copies(&run, n_runs).collect(), ..Snapshot::default() };
    let whole = cost(whole, before);
    println!("a run of {N_TASKS} tasks is archived as a document of {} bytes", archive.bytes);
    for (name, cost) in [("whole", &whole), ("archived", &archived)] {
        println!(
            "{n_runs} {name} runs: each takes {} bytes of memory and {} bytes of a checkpoint, \
             which takes {:?}",
            cost.bytes / n_runs,
            cost.checkpoint_bytes / n_runs,
            cost.checkpoint
        );
    }
    assert!(archived.bytes / n_runs <= BYTES_MAX, "{} bytes", archived.bytes / n_runs);
    assert!(archived.checkpoint_bytes / n_runs <= CHECKPOINT_BYTES_MAX);
    assert!(archived.checkpoint_bytes * 20 < whole.checkpoint_bytes);
}
