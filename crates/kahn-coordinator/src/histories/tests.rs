//! Runs in a blob store in memory.

use kahn_core::testing::{World, dag, exit_code};
use kahn_model::{Outputs, Uuid};

use super::*;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3600);

fn histories() -> Histories {
    Histories::new(BlobStore::open(&kahn_blob::Settings::new("memory:")).unwrap())
}

/// A run that has ended.
fn finished() -> RunSnapshot {
    let mut world = World::new();
    world.attach("w", "cpu=2");
    let run = world.submit(&dag().task("a").task("b").build());
    let (a, b) = (world.held("w", run, "a").unwrap(), world.held("w", run, "b").unwrap());
    world.finish("w", a, Ok(Outputs::default()));
    world.finish("w", b, Err(exit_code(3)));
    world.core.state().snapshot_run(world.run(run))
}

#[tokio::test]
async fn a_stored_run_is_read_as_it_was_and_once_for_all_who_ask() {
    let (histories, snapshot) = (histories(), finished());
    let run = snapshot.submission.run;
    let (archive, document) = codec::encode_archive(&snapshot);
    histories.put(run, archive, document).await.unwrap();
    assert_eq!(histories.runs().await.unwrap(), [run]);
    let (one, other) = tokio::join!(histories.read(run, archive), histories.read(run, archive));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(Arc::ptr_eq(&one, &other));
    let state = one.state();
    assert_eq!(state.snapshot_run(state.run(run).unwrap()), snapshot);
    assert_eq!(one.audit(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_not_stored_is_named_and_read_when_it_is() {
    let (histories, snapshot) = (histories(), finished());
    let run = snapshot.submission.run;
    let (archive, document) = codec::encode_archive(&snapshot);
    let error = histories.read(run, archive).await.unwrap_err();
    let HistoryError::Missing { object, .. } = &error else { panic!("{error}") };
    assert!(object.starts_with(&format!("history/{run}/")), "{object}");
    histories.put(run, archive, document).await.unwrap();
    assert!(histories.read(run, archive).await.is_ok());

    let error = Histories::default().read(run, archive).await.unwrap_err();
    assert!(error.to_string().contains("coordinator.blobs.url"), "{error}");
}

#[tokio::test]
async fn what_is_not_the_run_that_was_stored_is_refused() {
    let (histories, snapshot) = (histories(), finished());
    let run = snapshot.submission.run;
    let (archive, document) = codec::encode_archive(&snapshot);
    let mut damaged = document.to_vec();
    damaged[40] ^= 1;
    histories.put(run, archive, damaged.into()).await.unwrap();
    let error = histories.read(run, archive).await.unwrap_err();
    assert!(matches!(error, HistoryError::Damaged { .. }), "{error}");
    let other = RunId::new(Uuid::from_u128(77));
    histories.put(other, archive, document).await.unwrap();
    let error = histories.read(other, archive).await.unwrap_err();
    assert!(error.to_string().contains("another run"), "{error}");
}

#[tokio::test]
async fn everything_that_was_ever_stored_of_a_run_is_removed_with_it() {
    let (histories, snapshot) = (histories(), finished());
    let run = snapshot.submission.run;
    let mut later = snapshot.clone();
    later.history.pop();
    for stored in [&snapshot, &later] {
        let (archive, document) = codec::encode_archive(stored);
        histories.put(run, archive, document).await.unwrap();
    }
    assert!(!histories.remove_if_older(run, LONG).await.unwrap());
    assert_eq!(histories.runs().await.unwrap(), [run]);
    assert!(histories.remove_if_older(run, Duration::ZERO).await.unwrap());
    assert_eq!(histories.runs().await.unwrap(), []);
    histories.remove(run).await.unwrap();
}

#[tokio::test]
async fn a_document_of_many_parts_comes_back_as_it_was() {
    let store = BlobStore::open(&kahn_blob::Settings::new("memory:")).unwrap();
    let objects = Objects::new(store);
    let run = RunId::new(Uuid::from_u128(1));
    for n_bytes in [1, 8 << 20, (16 << 20) + 1] {
        let document: Bytes = (0..n_bytes).map(|at: usize| at.to_le_bytes()[1]).collect();
        let bytes = u64::try_from(n_bytes).unwrap();
        let archive = ArchiveRef { bytes, digest: bytes_digest(bytes) };
        objects.put(run, archive, document.clone()).await.unwrap();
        assert!(objects.get(run, archive).await.unwrap() == document, "{n_bytes}");
    }
}

fn bytes_digest(bytes: u64) -> [u8; 16] {
    u128::from(bytes).to_be_bytes()
}
