//! Changes and snapshots survive a round trip, and anything else is refused.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, like tests")]

#[path = "../../kahn-proto/tests/dags/support.rs"]
mod dags;
#[path = "codec/golden.rs"]
mod golden;
#[path = "codec/golden_later.rs"]
mod golden_later;
#[path = "codec/strategies.rs"]
mod strategies;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kahn_core::{Change, Snapshot, Submission};
use kahn_model::{Namespace, RunId, Timestamp, Uuid};
use kahn_proto::storage as wire;
use kahn_store::codec::{
    CodecError, Encoded, FORMAT_VERSION, PIECE_BYTES_MAX, blob_names, decode_archive, decode_batch,
    decode_snapshot, decode_submission, encode_archive, encode_batch, encode_manifest, encode_run,
    encode_snapshot, encode_submission, manifest_entries, snapshot_blob_names,
};
use proptest::prelude::*;
use prost::Message;

fn from(blobs: &[(String, Bytes)]) -> impl FnMut(&str) -> Result<Bytes, CodecError> {
    let blobs: BTreeMap<String, Bytes> = blobs.iter().cloned().collect();
    move |name| blobs.get(name).cloned().ok_or_else(|| CodecError::MissingBlob(name.to_owned()))
}

fn read(encoded: &Encoded) -> Result<Vec<(Timestamp, Change)>, CodecError> {
    decode_batch(&encoded.payload, from(&encoded.blobs))
}

fn large_submission(run: u128, n_tasks: usize) -> Arc<Submission> {
    Arc::new(Submission {
        run: RunId::new(Uuid::from_u128(run)),
        namespace: Namespace::default(),
        dag: Arc::new(dags::layered(n_tasks, 3)),
        params: BTreeMap::new(),
        digest: [7; 16],
        labels: BTreeMap::new(),
    })
}

proptest! {
    #[test]
    fn changes_come_back_as_they_were(changes in strategies::changes()) {
        let encoded = encode_batch(&changes);
        prop_assert_eq!(read(&encoded), Ok(changes));
    }

    #[test]
    fn a_submission_comes_back_as_it_was(submission in strategies::submission()) {
        let bytes = encode_submission(&submission);
        prop_assert_eq!(decode_submission(&bytes), Ok(submission));
    }

    #[test]
    fn a_snapshot_comes_back_as_it_was(snapshot in strategies::snapshot()) {
        let encoded = encode_snapshot(&snapshot);
        prop_assert_eq!(decode_snapshot(&encoded.payload, from(&encoded.blobs)), Ok(snapshot));
    }

    #[test]
    fn an_archive_comes_back_as_it_was_and_is_the_same_for_the_same_run(
        run in strategies::whole_run()
    ) {
        let (archive, document) = encode_archive(&run);
        prop_assert_eq!(encode_archive(&run), (archive, document.clone()));
        prop_assert_eq!(decode_archive(archive, &document), Ok(run));
    }

    #[test]
    fn an_archive_that_is_not_what_was_stored_is_refused(
        run in strategies::whole_run(),
        at in any::<proptest::sample::Index>(),
    ) {
        let (archive, document) = encode_archive(&run);
        let mut damaged = document.to_vec();
        let at = at.index(damaged.len());
        damaged[at] ^= 1;
        prop_assert_eq!(decode_archive(archive, &damaged), Err(CodecError::DamagedArchive));
        prop_assert_eq!(decode_archive(archive, &document[1..]), Err(CodecError::DamagedArchive));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        kahn_store::fuzz::log_record(&bytes);
    }

    #[test]
    fn a_damaged_batch_is_read_or_refused(
        changes in strategies::changes(),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encode_batch(&changes).payload.to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        kahn_store::fuzz::log_record(&bytes);
    }

    #[test]
    fn a_damaged_picture_is_read_or_refused(
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let encoded = encode_snapshot(&golden::snapshot_of(large_submission(1, 3)));
        let mut bytes = encoded.blobs[0].1.to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        kahn_store::fuzz::log_record(&bytes);
    }

    #[test]
    fn a_blob_that_is_not_what_its_name_says_is_refused(
        snapshot in strategies::snapshot(),
        at in any::<proptest::sample::Index>(),
    ) {
        let mut encoded = encode_snapshot(&snapshot);
        let Some((name, blob)) = encoded.blobs.first_mut() else { return Ok(()) };
        let mut bytes = blob.to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1;
        *blob = bytes.into();
        let damaged = CodecError::DamagedBlob(name.clone());
        let refused = decode_snapshot(&encoded.payload, from(&encoded.blobs));
        prop_assert_eq!(refused, Err(damaged));
    }
}

#[test]
fn bytes_too_few_or_too_many_are_refused() {
    let run = RunId::new(Uuid::from_u128(1));
    let whole = encode_batch(&[(Timestamp(1), Change::RunPaused { run })]).payload;
    let read = |bytes: &[u8]| decode_batch(bytes, from(&[]));
    for cut in 0..whole.len() {
        assert!(read(&whole[..cut]).is_err(), "{cut} of {} bytes", whole.len());
    }
    let mut longer = whole.to_vec();
    longer.push(0);
    assert!(matches!(read(&longer), Err(CodecError::Length { .. })));
}

/// Creates a batch that this version would not write.
fn foreign_batch(change: impl Fn(&mut wire::Batch)) -> Vec<u8> {
    let run = RunId::new(Uuid::from_u128(1));
    let mut batch = wire::Batch {
        kinds: vec![13].into(),
        at: vec![5],
        runs: vec![0],
        run_ids: Bytes::copy_from_slice(run.as_bytes()),
        ..wire::Batch::default()
    };
    change(&mut batch);
    let mut bytes = vec![b'K', 1, FORMAT_VERSION];
    batch.encode_length_delimited(&mut bytes).unwrap();
    bytes
}

#[test]
fn an_unknown_required_kind_is_refused_as_written_by_a_newer_version() {
    let bytes = foreign_batch(|batch| batch.kinds = vec![100].into());
    let refused = decode_batch(&bytes, from(&[])).unwrap_err();
    assert_eq!(refused, CodecError::NewerKind { kind: 100 });
    assert!(refused.to_string().contains("newer version"), "{refused}");
}

#[test]
fn an_unknown_optional_kind_is_passed_over() {
    let bytes = foreign_batch(|batch| {
        batch.kinds = vec![200, 13].into();
        batch.at = vec![5, 1];
        batch.runs = vec![0, 0];
        batch.details = vec![wire::Detail::default()];
    });
    let run = RunId::new(Uuid::from_u128(1));
    let known = vec![(Timestamp(6), Change::RunPaused { run })];
    assert_eq!(decode_batch(&bytes, from(&[])), Ok(known));
}

#[test]
fn a_newer_format_is_refused() {
    let mut bytes = foreign_batch(|_| ());
    bytes[2] = FORMAT_VERSION + 1;
    let refused = decode_batch(&bytes, from(&[])).unwrap_err();
    assert_eq!(refused, CodecError::NewerFormat { found: FORMAT_VERSION + 1 });
}

#[test]
fn columns_that_do_not_fit_the_records_are_refused() {
    let read = |change: fn(&mut wire::Batch)| decode_batch(&foreign_batch(change), from(&[]));
    let short = read(|batch| batch.kinds = vec![6].into());
    assert_eq!(short, Err(CodecError::ColumnShort { column: "tasks" }));
    let long = read(|batch| batch.numbers = vec![1]);
    assert_eq!(long, Err(CodecError::ColumnLong { column: "numbers" }));
    assert!(matches!(read(|batch| batch.runs = vec![1]), Err(CodecError::Invalid(_))));
    assert!(matches!(read(|batch| batch.kinds = vec![0].into()), Err(CodecError::Invalid(_))));
}

#[test]
fn a_large_submission_goes_to_blobs_and_comes_back() {
    let submission = large_submission(1, 100_000);
    let changes = vec![(Timestamp(1), Change::RunSubmitted(submission))];
    let encoded = encode_batch(&changes);
    assert!(encoded.payload.len() < 1000);
    assert!(encoded.blobs.len() > 1);
    assert!(encoded.blobs.iter().all(|(_, bytes)| bytes.len() <= PIECE_BYTES_MAX));
    let mut names: Vec<String> = encoded.blobs.iter().map(|(name, _)| name.clone()).collect();
    names.sort_unstable();
    assert_eq!(blob_names(&encoded.payload), Ok(names));
    assert_eq!(read(&encoded), Ok(changes.clone()));

    let first = encoded.blobs[0].0.clone();
    let lost = Encoded { blobs: encoded.blobs[1..].to_vec(), ..encoded };
    assert_eq!(read(&lost), Err(CodecError::MissingBlob(first)));
}

#[test]
fn a_checkpoint_refers_to_the_same_submission_as_the_log() {
    let submission = large_submission(1, 20_000);
    let of_log = encode_batch(&[(Timestamp(1), Change::RunSubmitted(Arc::clone(&submission)))]);
    let snapshot = golden::snapshot_of(submission);
    let run = &snapshot.runs[0];

    let whole = encode_snapshot(&snapshot);
    for (name, _) in &of_log.blobs {
        assert!(whole.blobs.iter().any(|(known, _)| known == name), "{name}");
    }

    let entries = manifest_entries(&whole.payload).unwrap();
    let (entry, blobs) = encode_run(run, entries.first());
    assert_eq!(Some(&entry), entries.first());
    for (name, _) in &of_log.blobs {
        assert!(blobs.iter().all(|(known, _)| known != name), "{name} is not written again");
    }
    let manifest = encode_manifest(&snapshot, &[entry]).payload;
    assert_eq!(manifest, whole.payload);
    let mut names: Vec<String> = whole.blobs.iter().map(|(name, _)| name.clone()).collect();
    names.sort_unstable();
    assert_eq!(snapshot_blob_names(&manifest), Ok(names));
    assert_eq!(decode_snapshot(&manifest, from(&whole.blobs)), Ok(snapshot));
}

#[test]
fn only_a_checkpoint_with_archived_runs_needs_the_newer_format() {
    let mut snapshot = golden::snapshot_of(large_submission(1, 3));
    assert_eq!(encode_snapshot(&snapshot).payload[2], 1);
    let archived = golden::archived_run(&snapshot.runs[0]);
    snapshot.archived = vec![archived.clone()];
    let encoded = encode_snapshot(&snapshot);
    assert_eq!(encoded.payload[2], 2);
    let refused = decode_snapshot(&encoded.payload, from(&encoded.blobs));
    assert!(matches!(refused, Err(CodecError::Invalid(_))), "a run is archived and not archived");
    snapshot.runs.clear();
    let encoded = encode_snapshot(&snapshot);
    assert_eq!(decode_snapshot(&encoded.payload, from(&encoded.blobs)), Ok(snapshot));
    let lost = decode_snapshot(&encoded.payload, from(&[]));
    assert!(matches!(lost, Err(CodecError::MissingBlob(_))), "{lost:?}");
}

#[test]
fn a_large_restored_run_goes_to_blobs_and_comes_back() {
    let run = golden::snapshot_of(large_submission(1, 100_000)).runs.remove(0);
    let changes = vec![(Timestamp(1), Change::RunRestored(Arc::new(run)))];
    let encoded = encode_batch(&changes);
    assert!(encoded.payload.len() < 1000);
    let mut names: Vec<String> = encoded.blobs.iter().map(|(name, _)| name.clone()).collect();
    names.sort_unstable();
    assert_eq!(blob_names(&encoded.payload), Ok(names));
    assert_eq!(read(&encoded), Ok(changes));
}

#[test]
fn a_held_task_without_a_lease_is_refused() {
    let mut snapshot: Snapshot = golden::snapshot_of(large_submission(1, 10));
    snapshot.runs[0].leases.pop();
    let encoded = encode_snapshot(&snapshot);
    let refused = decode_snapshot(&encoded.payload, from(&encoded.blobs));
    assert!(matches!(refused, Err(CodecError::Inconsistent(_))), "{refused:?}");
}
